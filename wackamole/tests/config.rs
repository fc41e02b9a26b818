//! The configuration file: what is accepted, and what is said about what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use wackamole::config::{Config, ConfigError, DEFAULT_FILE, Machine, defaults, key};
use wackamole_protocol::id::NodeId;

/// Every bad configuration below is this one with something changed.
const GOOD: &str = r#"[cluster]
name = "web"
key_file = "/etc/wackamole/cluster.key"

[timing]
heartbeat = "100ms"
failure_timeout = "400ms"
mature = "2s"

[balance]
moves_per_round = "all"
interval = "4s"

[[nodes]]
name = "a"
addresses = ["10.77.0.11"]

[[nodes]]
name = "b"
addresses = ["10.77.0.12"]

[[vips]]
range = "10.77.1.1-10.77.1.10"
interface = "eth0"

[[vips]]
name = "gateway"
addresses = ["10.77.2.1/24@eth0", "fd00:77::1/64@eth1"]
prefer = ["a"]
"#;

#[test]
fn a_good_configuration_means_what_it_says() {
    let config = parse(GOOD).unwrap();

    assert_eq!(config.cluster(), "web");
    assert_eq!(config.timing().failure_timeout, Duration::from_millis(400));
    assert_eq!(config.balance().moves_per_round, None);
    assert_eq!(config.control_socket(), Path::new(defaults::CONTROL_SOCKET));
    let nodes: Vec<_> = config.nodes().iter().map(|n| (n.name.as_str(), n.weight)).collect();
    assert_eq!(nodes, [("a", 1), ("b", 1)]);
    let address = SocketAddr::new([10, 77, 0, 11].into(), defaults::PORT);
    assert_eq!(config.nodes()[0].addresses, [address]);
    let vips = show_vips(&config);
    assert_eq!(vips[0], "10.77.1.1: 10.77.1.1/32@eth0");
    assert_eq!(vips[9], "10.77.1.10: 10.77.1.10/32@eth0");
    assert_eq!(vips[10..], ["gateway: 10.77.2.1/24@eth0 fd00:77::1/64@eth1"]);
    assert_eq!(config.vips()[10].prefer, [NodeId::from_name("a")]);
}

#[test]
fn every_way_to_write_a_vip_is_accepted() {
    for (vips, expected) in [
        ("address = \"10.0.0.1\"\ninterface = \"eth0\"", "10.0.0.1: 10.0.0.1/32@eth0"),
        ("address = \"10.0.0.1/24@eth1\"\ninterface = \"eth0\"", "10.0.0.1: 10.0.0.1/24@eth1"),
        ("name = \"x\"\naddress = \"fd00::1@eth1\"", "x: fd00::1/128@eth1"),
        (
            "addresses = [\"10.0.0.1/31\", \"10.0.0.2@eth1\"]\ninterface = \"eth0\"\nprefix = 24",
            "10.0.0.1+10.0.0.2: 10.0.0.1/31@eth0 10.0.0.2/24@eth1",
        ),
        (
            "range = \"fd00::ffff - fd00::1:0\"\ninterface = \"br0.7\"\nprefix = 64",
            "fd00::ffff: fd00::ffff/64@br0.7, fd00::1:0: fd00::1:0/64@br0.7",
        ),
        (
            "range = \"10.0.0.255-10.0.1.0\"\ninterface = \"e\"\nprefix = 22",
            "10.0.0.255: 10.0.0.255/22@e, 10.0.1.0: 10.0.1.0/22@e",
        ),
    ] {
        let config = parse(&format!("{}[[vips]]\n{vips}\n", without_vips()))
            .unwrap_or_else(|error| panic!("{error}"));

        assert_eq!(show_vips(&config).join(", "), expected);
    }
}

#[test]
fn a_node_may_have_several_addresses_and_ports_of_its_own() {
    let text = GOOD
        .replace("[\"10.77.0.11\"]", "[\"10.77.0.11:4900\", \"fd00::11\"]")
        .replace("[\"10.77.0.12\"]", "[\"10.77.0.12\", \"[fd00::12]:4900\"]\nweight = 3");

    let config = parse(&format!("{text}[network]\nport = 5000\n")).unwrap();

    let addresses: Vec<_> =
        config.nodes().iter().map(|n| (n.weight, format!("{:?}", n.addresses))).collect();
    assert_eq!(
        addresses,
        [
            (1, "[10.77.0.11:4900, [fd00::11]:5000]".to_owned()),
            (3, "[10.77.0.12:5000, [fd00::12]:4900]".to_owned())
        ]
    );
}

#[test]
fn addresses_that_must_be_reached_are_read_as_they_stand() {
    let safety =
        "[safety]\npartition = \"quorum\"\nmust_reach = [\"192.0.2.1\", \"fd00::1\"]\n[balance]";

    let config = parse(&GOOD.replace("[balance]", safety)).unwrap();

    let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(config.must_reach(), expected);
    assert!(parse(GOOD).unwrap().must_reach().is_empty());
}

#[test]
fn relative_paths_start_from_the_directory_of_the_file() {
    let text = GOOD.replace("/etc/wackamole/cluster.key", "cluster.key");

    let config = Config::parse(Path::new("/srv/web/wackamole.toml"), &text).unwrap();

    assert_eq!(config.key_file(), Path::new("/srv/web/cluster.key"));
}

/// What is replaced in the good configuration, and by what.
const BAD: &[(&str, &str)] = &[
    // What is not TOML, or of another shape.
    ("[cluster]", "[cluster"),
    ("name = \"web\"", "name = web"),
    ("mature = \"2s\"", "mature = \"2s\"\nmature = \"3s\""),
    ("[timing]", "[timings]"),
    ("heartbeat =", "hearbeat ="),
    ("interval =", "pause ="),
    ("interface = \"eth0\"", "device = \"eth0\""),
    ("[timing]\nheartbeat = \"100ms\"", "[cluster.timing]\nheartbeat = \"100ms\""),
    ("[balance]", "[network.port]\n[balance]"),
    ("[cluster]", "timing = 3\n[cluster]"),
    ("[[nodes]]\nname = \"a\"", "[nodes]\nname = \"a\""),
    // [cluster]
    ("name = \"web\"\n", ""),
    ("\"web\"", "\"\""),
    ("\"web\"", "\"the web\""),
    ("\"web\"", "\"-web\""),
    ("\"web\"", "\"0123456789012345678901234567890123456789012345678901234567890123456789\""),
    ("\"web\"", "7"),
    ("\"/etc/wackamole/cluster.key\"", "\"\""),
    // [timing]
    ("\"100ms\"", "\"fast\""),
    ("\"100ms\"", "100"),
    ("\"100ms\"", "\"500us\""),
    ("\"100ms\"", "\"11s\""),
    ("\"400ms\"", "\"299ms\""),
    ("heartbeat = \"100ms\"\nfailure_timeout = \"400ms\"", "heartbeat = \"200ms\""),
    ("mature = \"2s\"", "mature = \"2 hours\""),
    ("mature = \"2s\"", "mature = \"2h\""),
    // [balance]
    ("\"all\"", "\"some\""),
    ("\"all\"", "0"),
    ("\"all\"", "1.5"),
    ("\"4s\"", "\"0s\""),
    // [safety]
    ("[balance]", "[safety]\npartition = \"lam\"\n[balance]"),
    ("[balance]", "[safety]\npartition = true\n[balance]"),
    ("[balance]", "[safety]\nquorum = \"half\"\n[balance]"),
    ("[balance]", "[safety]\nmin_quorum = 0\n[balance]"),
    ("[balance]", "[safety]\nmin_quorum = 3\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"192.0.2.1\"]\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"192.0.2.1\"]\npartition = \"component\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = []\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = \"192.0.2.1\"\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"gateway\"]\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [10]\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"0.0.0.0\"]\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"127.0.0.1\"]\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"fe80::1\"]\npartition = \"quorum\"\n[balance]"),
    (
        "[balance]",
        "[safety]\nmust_reach = [\"fd00::1\", \"fd00:0::1\"]\npartition = \"quorum\"\n[balance]",
    ),
    ("[balance]", "[safety]\nmust_reach = [\"10.77.0.12\"]\npartition = \"quorum\"\n[balance]"),
    ("[balance]", "[safety]\nmust_reach = [\"10.77.1.3\"]\npartition = \"quorum\"\n[balance]"),
    (
        "[balance]",
        "[safety]\nmust_reach = [\"10.1.0.1\", \"10.1.0.2\", \"10.1.0.3\", \"10.1.0.4\", \"10.1.0.5\", \"10.1.0.6\", \
         \"10.1.0.7\", \"10.1.0.8\", \"10.1.0.9\"]\npartition = \"quorum\"\n[balance]",
    ),
    ("[balance]", "[safety]\nlan_wait_max = \"1ms\"\n[balance]"),
    ("[balance]", "[safety]\nlan_wait_max = 5\n[balance]"),
    ("[balance]", "[safety]\ndrift = \"1\"\n[balance]"),
    ("[balance]", "[safety]\ndrift = \"20%\"\n[balance]"),
    ("[balance]", "[safety]\nrelease_margin = \"300ms\"\n[balance]"),
    ("[balance]", "[safety]\nfence = \"iptables\"\n[balance]"),
    ("[balance]", "[safety]\nfence_command = [\"power-off\"]\n[balance]"),
    ("[balance]", "[safety]\nfence_command = \"/sbin/power-off\"\n[balance]"),
    ("[balance]", "[safety]\nfence_command_timeout = \"1ms\"\n[balance]"),
    ("[balance]", "[safety]\nfences = \"none\"\n[balance]"),
    ("[\"10.77.0.12\"]", "[\"10.77.0.12\"]\nwitness = \"yes\""),
    // [network] and [daemon]
    ("[balance]", "[network]\nport = 70000\n[balance]"),
    ("[balance]", "[network]\nport = 0\n[balance]"),
    ("[balance]", "[network]\nmulticast = \"10.0.0.1:4816\"\n[balance]"),
    ("[balance]", "[network]\nmulticast = \"239.255.77.1\"\n[balance]"),
    ("[balance]", "[network]\nmulticast = \"[ff15::77]:4816\"\n[balance]"),
    (
        "[balance]",
        "[daemon]\ncontrol_socket = \"/run/01234567890123456789012345678901234567890123456789\
         01234567890123456789012345678901234567890123456789.sock\"\n[balance]",
    ),
    // [[nodes]]
    (
        "[[nodes]]\nname = \"a\"\naddresses = [\"10.77.0.11\"]\n\n\
         [[nodes]]\nname = \"b\"\naddresses = [\"10.77.0.12\"]\n",
        "",
    ),
    ("name = \"b\"", "name = \"a\""),
    ("name = \"b\"\n", ""),
    ("name = \"b\"\naddresses = [\"10.77.0.12\"]", "name = \"b\""),
    ("[\"10.77.0.12\"]", "[]"),
    ("[\"10.77.0.12\"]", "\"10.77.0.12\""),
    ("[\"10.77.0.12\"]", "[\"b.example.org\"]"),
    ("[\"10.77.0.12\"]", "[\"10.77.0.11\"]"),
    ("[\"10.77.0.12\"]", "[\"10.77.0.12\", \"10.77.0.12\"]"),
    ("[\"10.77.0.12\"]", "[\"fd00::12\"]"),
    ("[\"10.77.0.12\"]", "[\"0.0.0.0\"]"),
    ("[\"10.77.0.12\"]", "[\"10.77.0.12:0\"]"),
    ("[\"10.77.0.12\"]", "[\"fe80::12\"]"),
    ("[\"10.77.0.12\"]", "[\"::ffff:10.77.0.12\"]"),
    ("[\"10.77.0.12\"]", "[\"10.77.0.12\"]\nweight = 0"),
    ("[\"10.77.0.12\"]", "[\"10.77.0.12\"]\nweight = -1"),
    // [[vips]]
    ("[[vips]]\nrange = \"10.77.1.1-10.77.1.10\"\ninterface = \"eth0\"\n", "[[vips]]\n"),
    ("10.77.1.1-10.77.1.10", "10.77.1.10-10.77.1.1"),
    ("10.77.1.1-10.77.1.10", "10.77.1.1-10"),
    ("10.77.1.1-10.77.1.10", "10.77.1.1"),
    ("10.77.1.1-10.77.1.10", "10.77.1.1-fd00::1"),
    ("10.77.1.1-10.77.1.10", "10.0.0.0-10.255.255.255"),
    ("10.77.1.1-10.77.1.10", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("10.77.1.1-10.77.1.10", "10.77.1.1-10.77.1.300"),
    ("10.77.1.1-10.77.1.10", "10.77.0.1-10.77.0.20"),
    ("10.77.1.1-10.77.1.10\"", "10.77.1.1-10.77.1.10\"\nname = \"ten\""),
    ("10.77.1.1-10.77.1.10\"", "10.77.1.0-10.77.1.255\"\nprefix = 24"),
    ("10.77.1.1-10.77.1.10\"", "10.77.1.1-10.77.1.10\"\nprefix = 33"),
    ("10.77.1.1-10.77.1.10\"", "10.77.1.1-10.77.1.10\"\nprefix = 129"),
    ("10.77.2.1/24@eth0", "10.77.1.7/24@eth0"),
    (
        "name = \"gateway\"",
        "range = \"10.77.1.5-10.77.1.15\"\ninterface = \"eth0\"\n[[vips]]\nname = \"gateway\"",
    ),
    ("name = \"gateway\"", "name = \"10.77.1.3\""),
    ("interface = \"eth0\"\n", ""),
    ("\"eth0\"", "\"a name that is too long\""),
    ("10.77.2.1/24@eth0", "10.77.2.1/24@"),
    ("10.77.2.1/24@eth0", "10.77.2.1/24"),
    ("10.77.2.1/24@eth0", "10.77.2.1/33@eth0"),
    ("10.77.2.1/24@eth0", "10.77.2.1/0@eth0"),
    ("10.77.2.1/24@eth0", "10.77.2.1/x@eth0"),
    ("10.77.2.1/24@eth0", "10.77.2.255/24@eth0"),
    ("10.77.2.1/24@eth0", "10.77.0.12@eth0"),
    ("10.77.2.1/24@eth0", "127.0.0.5@lo"),
    ("10.77.2.1/24@eth0", "239.0.0.1@eth0"),
    ("10.77.2.1/24@eth0", "gateway@eth0"),
    ("[\"10.77.2.1/24@eth0\", \"fd00:77::1/64@eth1\"]", "[]"),
    ("[\"10.77.2.1/24@eth0\", \"fd00:77::1/64@eth1\"]", "[10]"),
    ("addresses = [\"10.77.2.1/24@eth0\", \"fd00:77::1/64@eth1\"]\n", ""),
    ("prefer = [\"a\"]", "prefer = [\"a\"]\naddress = \"10.77.9.9@eth0\""),
    ("[\"a\"]", "[\"c\"]"),
    ("[\"a\"]", "[\"A\"]"),
    ("[\"a\"]", "[\"a\", \"a\"]"),
    ("[\"a\"]", "\"a\""),
];

#[test]
fn every_bad_configuration_is_told_with_its_place_and_what_would_be_accepted() {
    let mut shown = String::new();
    for (from, to) in BAD {
        assert!(GOOD.contains(from), "nothing to replace: {from:?}");
        let error = parse(&GOOD.replacen(from, to, 1))
            .map_or_else(|error| error.to_string(), |_| panic!("accepted: {to:?}"));
        let title = to.lines().next().unwrap_or("(nothing)");
        writeln!(shown, "━━━ {title}\n{error}\n").unwrap();
    }
    insta::assert_snapshot!("bad_configurations", shown);
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_its_order() {
    let text = GOOD
        .replace("heartbeat =", "hearbeat =")
        .replace("\"2s\"", "\"2\"")
        .replace("[\"a\"]", "[\"z\"]")
        .replace("10.77.1.1-", "10.77.2.1-");

    insta::assert_snapshot!("all_problems_at_once", parse(&text).unwrap_err());
}

#[test]
fn two_names_with_one_hash_are_refused() {
    // Found by trying: with 32 bits it takes some ten thousand names.
    let mut seen = BTreeMap::new();
    let (first, second) = (0_u32..)
        .map(|number| format!("n{number}"))
        .find_map(|name| Some((seen.insert(NodeId::from_name(&name), name.clone())?, name)))
        .unwrap();
    let text = GOOD
        .replace("name = \"a\"", &format!("name = \"{first}\""))
        .replace("name = \"b\"", &format!("name = \"{second}\""))
        .replace("prefer = [\"a\"]\n", "");

    insta::assert_snapshot!("two_names_with_one_hash", parse(&text).unwrap_err());
}

#[test]
fn a_flood_of_problems_is_cut_short() {
    let mut text = GOOD.to_owned();
    for index in 0..30 {
        writeln!(text, "unknown_{index} = 1").unwrap();
    }

    let error = parse(&text).unwrap_err().to_string();

    assert!(error.ends_with("\n\n… and 10 more"), "{error}");
}

#[test]
fn forty_eight_nodes_are_accepted_and_no_more() {
    let with_nodes = |count: usize| {
        let mut text = GOOD.to_owned();
        for index in 2..count {
            writeln!(text, "[[nodes]]\nname = \"n{index}\"\naddresses = [\"10.78.0.{index}\"]")
                .unwrap();
        }
        parse(&text)
    };

    assert_eq!(with_nodes(48).unwrap().nodes().len(), 48);
    let error = with_nodes(49).unwrap_err().to_string();
    assert!(error.contains("there are 49 nodes"), "{error}");
}

#[test]
fn a_cluster_has_at_most_65536_vips_over_all_sections() {
    let base = without_vips();
    let range = "[[vips]]\nrange = \"10.1.0.0-10.1.255.255\"\ninterface = \"eth0\"\n";

    let full = parse(&format!("{base}{range}")).unwrap();
    let over = parse(&format!("{base}{range}[[vips]]\naddress = \"10.2.0.1@eth0\"\n"));

    assert_eq!(full.vips().len(), 65_536);
    let error = over.unwrap_err().to_string();
    assert!(error.contains("this makes 65537 VIPs"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nonexistent/wackamole.toml")).unwrap_err();

    assert_eq!(error.to_string(), "cannot read the configuration /nonexistent/wackamole.toml");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
}

#[test]
fn a_node_is_told_by_option_then_host_name_then_address() {
    let config = parse(GOOD).unwrap();
    let machine = |host_name: &str, addresses: &[&str]| Machine {
        host_name: host_name.into(),
        interfaces: BTreeSet::new(),
        addresses: addresses.iter().map(|a| a.parse::<IpAddr>().unwrap()).collect(),
    };
    let mut shown = String::new();
    for (named, machine) in [
        (Some("b"), machine("a", &["10.77.0.11"])),
        (None, machine("a", &[])),
        (None, machine("b.example.org", &["10.77.0.12"])),
        (None, machine("localhost", &["127.0.0.1", "10.77.0.12"])),
        (Some("c"), machine("a", &["10.77.0.11"])),
        (Some("B"), machine("a", &["10.77.0.11"])),
        (None, machine("a", &["10.77.0.12"])),
        (None, machine("localhost", &["10.77.0.11", "10.77.0.12"])),
        (None, machine("localhost", &["127.0.0.1"])),
    ] {
        let found = match config.identify(named, &machine) {
            Ok(node) => node.name.clone(),
            Err(error) => error.to_string(),
        };
        let Machine { host_name, addresses, .. } = machine;
        writeln!(shown, "--node {named:?}, called {host_name}, has {addresses:?}\n{found}\n")
            .unwrap();
    }
    insta::assert_snapshot!("which_node_am_i", shown);
}

#[test]
fn interfaces_that_do_not_exist_are_told_where_they_are_named() {
    let config = parse(GOOD).unwrap();
    let existing = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();

    assert!(config.check_interfaces(&existing(&["eth0", "eth1", "lo"])).is_ok());
    let error = config.check_interfaces(&existing(&["lo", "eth0", "wlan0"]));
    insta::assert_snapshot!("missing_interfaces", error.unwrap_err());
}

#[test]
fn the_machine_knows_its_loopback() {
    let machine = Machine::observe().unwrap();

    assert!(machine.interfaces.contains("lo"), "{machine:?}");
    assert!(!machine.host_name.is_empty());
}

#[test]
fn a_bad_key_file_is_told_where_the_configuration_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.key");
    key::write(&file, &key::generate().unwrap(), false).unwrap();
    // Relative, so that nothing in the messages but the directory differs from run to run.
    let text = GOOD.replace("/etc/wackamole/cluster.key", "cluster.key");
    let config = Config::parse(&directory.path().join("w.toml"), &text).unwrap();
    let told = || {
        let error = config.key().unwrap_err().to_string();
        error.replace(directory.path().to_str().unwrap(), "/DIRECTORY")
    };

    assert!(config.key().is_ok());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = told();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "wackamole-key-1\n00ff\n").unwrap();
    let malformed = told();
    fs::remove_file(&file).unwrap();
    let missing = told();

    insta::assert_snapshot!("bad_key_files", format!("{exposed}\n\n{malformed}\n\n{missing}"));
}

#[test]
fn a_key_file_is_private_from_its_first_moment_and_never_replaced_unasked() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("new/cluster.key");
    let (first, second) = (key::generate().unwrap(), key::generate().unwrap());

    key::write(&file, &first, false).unwrap();
    let refused = key::write(&file, &second, false);
    let kept = key::read(&file).unwrap();
    key::write(&file, &second, true).unwrap();

    assert!(matches!(refused, Err(key::KeyError::Exists { .. })), "{refused:?}");
    assert_eq!(kept, first);
    assert_eq!(key::read(&file).unwrap(), second);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = parse(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        start in 0..DEFAULT_FILE.len(),
        length in 0..40_usize,
        insert in "[\"'\\[\\]{}=,.a-z0-9\\n \t–é-]{0,12}",
    ) {
        let mut bytes = DEFAULT_FILE.as_bytes().to_vec();
        let end = (start + length).min(bytes.len());
        bytes.splice(start..end, insert.into_bytes());
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text).map_err(|error| error.to_string());
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("wackamole.toml"), text)
}

fn without_vips() -> &'static str {
    GOOD.split_once("[[vips]]").map_or(GOOD, |(before, _)| before)
}

/// Each VIP as `name: address/prefix@interface …`.
fn show_vips(config: &Config) -> Vec<String> {
    let vips = config.vips().iter().map(|definition| {
        let addresses: Vec<_> = definition
            .vip
            .addresses()
            .iter()
            .map(|a| format!("{}/{}@{}", a.address, a.prefix, a.interface))
            .collect();
        format!("{}: {}", definition.vip.name(), addresses.join(" "))
    });
    vips.collect()
}
