//! What a cluster shall be like, and the configuration file that says so to every machine of it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::lan::{own_ipv4, own_ipv6};

/// A cluster to be built. Start from [`Plan::new`] and change what matters to the case.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cluster's name.
    pub name: String,
    /// The machines' names, in rank order. The first has number 11 on every segment, and so on.
    pub machines: Vec<String>,
    /// How many segments every machine is plugged into: `eth0`, `eth1`, …
    pub segments: u8,
    /// Pause between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a machine counts as down.
    pub failure_timeout: Duration,
    /// A joiner's wait before it may own VIPs.
    pub mature: Duration,
    /// Pause before a balance round.
    pub balance_interval: Duration,
    /// Heartbeats go to a multicast group.
    pub multicast: bool,
    /// The segments on which daemons talk to each other; empty: all.
    pub heartbeats_on: Vec<u8>,
    /// What the section `[safety]` says, as keys and TOML values.
    pub safety: Vec<(String, String)>,
    /// Daemons talk over IPv6.
    pub ipv6: bool,
    /// The VIPs.
    pub vips: Vec<PlannedVip>,
    /// Number of the first machine on each segment.
    pub first_number: u8,
    /// Daemons record what they are told.
    pub record: bool,
}

/// A VIP to be configured.
#[derive(Clone, Debug)]
pub struct PlannedVip {
    /// What the status calls it.
    pub name: String,
    /// Its addresses, each with the interface that carries it.
    pub addresses: Vec<(IpAddr, String)>,
    /// Its preferred machines.
    pub prefer: Vec<String>,
}

impl Plan {
    /// Machines `a`, `b`, … on one segment with quick timing and no VIPs.
    pub fn new(machines: u8) -> Self {
        Self {
            name: "web".into(),
            machines: (0..machines).map(|i| char::from(b'a' + i).to_string()).collect(),
            segments: 1,
            heartbeat: Duration::from_millis(50),
            failure_timeout: Duration::from_millis(250),
            mature: Duration::from_millis(300),
            balance_interval: Duration::from_millis(400),
            multicast: false,
            heartbeats_on: Vec::new(),
            safety: Vec::new(),
            ipv6: false,
            vips: Vec::new(),
            first_number: 11,
            record: false,
        }
    }

    /// With other timing: heartbeat and failure timeout.
    #[must_use]
    pub fn timing(self, heartbeat: Duration, failure_timeout: Duration) -> Self {
        Self { heartbeat, failure_timeout, ..self }
    }

    /// With a key of the section `[safety]`, whose value is text.
    #[must_use]
    pub fn safety(mut self, key: &str, value: &str) -> Self {
        self.safety.push((key.to_owned(), format!("{value:?}")));
        self
    }

    /// With `count` more VIPs of one IPv4 address each, `10.77.1.1` and following, on `eth0`.
    #[must_use]
    pub fn ipv4_vips(self, count: u8) -> Self {
        let address = |i| Ipv4Addr::new(10, 77, 1, i).into();
        (1..=count).fold(self, |plan, i| plan.vip(&[(address(i), "eth0")], &[]))
    }

    /// With `count` more VIPs of one IPv6 address each, `fd00:77::1:1` and following, on `eth0`.
    #[must_use]
    pub fn ipv6_vips(self, count: u8) -> Self {
        let address = |i| Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 1, u16::from(i)).into();
        (1..=count).fold(self, |plan, i| plan.vip(&[(address(i), "eth0")], &[]))
    }

    /// With one more VIP: a single address is called by it, several are called `set1` and following.
    #[must_use]
    pub fn vip(mut self, addresses: &[(IpAddr, &str)], prefer: &[&str]) -> Self {
        let name = match addresses {
            [(address, _)] => address.to_string(),
            _ => format!("set{}", 1 + self.vips.iter().filter(|v| v.addresses.len() > 1).count()),
        };
        let addresses = addresses.iter().map(|&(a, interface)| (a, interface.to_owned())).collect();
        let prefer = prefer.iter().map(|&node| node.to_owned()).collect();
        self.vips.push(PlannedVip { name, addresses, prefer });
        self
    }

    /// All addresses of all VIPs.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.vips.iter().flat_map(|vip| &vip.addresses).map(|&(address, _)| address).collect()
    }

    /// The number of a machine on each segment, the last part of its own addresses.
    pub fn number(&self, index: usize) -> u8 {
        self.first_number + u8::try_from(index).expect("a plan has few machines")
    }

    /// The configuration file, the same on all machines.
    pub fn configuration(&self, key_file: &str, state_directory: &str) -> String {
        let mut text = format!(
            "[cluster]\nname = {:?}\nkey_file = {key_file:?}\n\n\
             [timing]\nheartbeat = \"{}us\"\nfailure_timeout = \"{}us\"\nmature = \"{}us\"\n\n\
             [balance]\ninterval = \"{}us\"\n\n\
             [daemon]\nstate_dir = {state_directory:?}\n",
            self.name,
            self.heartbeat.as_micros(),
            self.failure_timeout.as_micros(),
            self.mature.as_micros(),
            self.balance_interval.as_micros(),
        );
        if self.multicast {
            let group = if self.ipv6 { "[ff02::7761]:4816" } else { "239.255.77.1:4816" };
            text += &format!("\n[network]\nmulticast = {group:?}\n");
        }
        if !self.safety.is_empty() {
            text += "\n[safety]\n";
        }
        for (key, value) in &self.safety {
            let _ = writeln!(text, "{key} = {value}");
        }
        for (index, name) in self.machines.iter().enumerate() {
            let number = self.number(index);
            let own = |s| if self.ipv6 { own_ipv6(s, number) } else { own_ipv4(s, number) };
            let everywhere: Vec<_> = (0..self.segments).collect();
            let segments =
                if self.heartbeats_on.is_empty() { &everywhere } else { &self.heartbeats_on };
            let addresses: Vec<_> = segments.iter().map(|&s| own(s).to_string()).collect();
            let _ = write!(text, "\n[[nodes]]\nname = {name:?}\naddresses = {addresses:?}\n");
        }
        for PlannedVip { name, addresses, prefer } in &self.vips {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|(address, interface)| format!("{address}@{interface}"))
                .collect();
            let _ = write!(text, "\n[[vips]]\nname = {name:?}\naddresses = {addresses:?}\n");
            if !prefer.is_empty() {
                let _ = writeln!(text, "prefer = {prefer:?}");
            }
        }
        text
    }
}
