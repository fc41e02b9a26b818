//! The configuration file: TOML text → checked [`Config`] → [`NodeConfig`].
//!
//! Parse, don't validate: whoever has a `Config` has one that makes sense. What depends on the machine (which node it
//! is, whether an interface exists, the key file) is asked afterwards, because the same file is meant for all of them.
//! Every problem names file, line and column, what was found and what would be accepted; all of them are told at once.

mod default_file;
mod document;
pub mod key;
mod machine;
mod must_reach;
mod nodes;
mod report;
mod safety;
mod settings;
mod units;
mod vips;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use wackamole_protocol::config::{
    Balance, ClusterKey, NodeConfig, NodeDefinition, Safety, Timing, VipDefinition,
};
use wackamole_protocol::id::NodeId;

pub use default_file::DEFAULT_FILE;
pub use machine::Machine;
pub use report::{ConfigError, Report};
pub use safety::Fence;

use document::Section;
use report::{Problem, Source, Span};

/// Where the configuration is looked for unless the command line says otherwise.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/wackamole/wackamole.toml";

/// What holds where the file says nothing.
pub mod defaults {
    use super::{Balance, Timing};
    use std::time::Duration;

    /// See [`Timing`].
    pub const TIMING: Timing = Timing {
        heartbeat: Duration::from_millis(100),
        failure_timeout: Duration::from_millis(400),
        mature: Duration::from_secs(2),
    };
    /// See [`Balance`].
    pub const BALANCE: Balance =
        Balance { moves_per_round: None, interval: Duration::from_secs(4) };
    /// UDP port of the daemons; in a range (4805–4826) that IANA has not assigned.
    pub const PORT: u16 = 4815;
    /// The cluster's key.
    pub const KEY_FILE: &str = "/etc/wackamole/cluster.key";
    /// Where the daemon keeps its incarnation.
    pub const STATE_DIR: &str = "/var/lib/wackamole";
    /// Where the daemon answers `wackamole status`.
    pub const CONTROL_SOCKET: &str = "/run/wackamole/control.sock";
    /// A node's share of the load.
    pub const WEIGHT: u32 = 1;
}

/// A configuration that makes sense, as far as that can be said without looking at a machine.
#[derive(Clone, Debug)]
pub struct Config {
    source: Source,
    cluster: String,
    key_file: PathBuf,
    key_file_span: Option<Span>,
    timing: Timing,
    balance: Balance,
    safety: Safety,
    fence: Fence,
    must_reach: Vec<IpAddr>,
    multicast: Option<SocketAddr>,
    state_dir: PathBuf,
    control_socket: PathBuf,
    nodes: Vec<NodeDefinition>,
    vips: Vec<VipDefinition>,
    /// Every interface that carries a VIP, and where it is first named.
    interfaces: BTreeMap<String, Span>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, &text)
    }

    /// Checks the text of a file; `file` is for messages, and relative paths in the text start from its directory.
    ///
    /// # Errors
    /// Everything that is wrong with the text.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source::new(file, text);
        let (root, syntax_errors) = DeTable::parse_recoverable(text);
        // The first one only: what follows are mostly its consequences.
        if let Some(error) = syntax_errors.first() {
            return Err(source.error(vec![syntax_problem(error)]));
        }
        let mut problems = Vec::new();
        let config = Self::read(&source, &Section::document(root.get_ref()), &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(source.error(problems)),
        }
    }

    /// Nothing if a required part is missing; `problems` then says so.
    fn read(source: &Source, root: &Section<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        root.only(
            &["cluster", "timing", "balance", "safety", "network", "daemon", "nodes", "vips"],
            problems,
        );
        let cluster = settings::cluster(root, problems);
        let timing = settings::timing(root, problems);
        let balance = settings::balance(root, problems);
        let (safety, fence) = safety::read(root, &timing, problems);
        let network = settings::network(root, problems);
        let daemon = settings::daemon(root, problems);
        let nodes = nodes::read(root, &network, problems);
        let vips = vips::read(root, &nodes, problems);
        safety::check_nodes(root, &safety, &nodes.definitions(), problems);
        let must_reach = must_reach::read(root, safety.partition, &nodes, &vips, problems);
        let base = source.file().parent().unwrap_or(Path::new(""));
        Some(Self {
            source: source.clone(),
            cluster: cluster.name?,
            key_file: base.join(cluster.key_file),
            key_file_span: cluster.key_file_span,
            timing,
            balance,
            safety,
            fence,
            must_reach,
            multicast: network.multicast.map(|group| group.value),
            state_dir: base.join(daemon.state_dir),
            control_socket: base.join(daemon.control_socket),
            nodes: nodes.into_definitions(),
            vips: vips.definitions,
            interfaces: vips.interfaces,
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The file that holds the cluster's key.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Heartbeats and waits.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// How the load is evened out.
    pub fn balance(&self) -> Balance {
        self.balance
    }

    /// The partition policy, and how leases are reckoned without a gate.
    pub fn safety(&self) -> Safety {
        self.safety
    }

    /// What stands behind the daemon when it cannot release by itself.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// One of these has to answer before a primary view is proposed that loses anybody; empty if nothing is asked.
    pub fn must_reach(&self) -> &[IpAddr] {
        &self.must_reach
    }

    /// The multicast group that heartbeats go to, if not to each peer.
    pub fn multicast(&self) -> Option<SocketAddr> {
        self.multicast
    }

    /// Where the daemon keeps what it must remember.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where the daemon answers `wackamole status`.
    pub fn control_socket(&self) -> &Path {
        &self.control_socket
    }

    /// All nodes in rank order; never empty.
    pub fn nodes(&self) -> &[NodeDefinition] {
        &self.nodes
    }

    /// All VIPs in the order of the file.
    pub fn vips(&self) -> &[VipDefinition] {
        &self.vips
    }

    /// Reads the cluster's key.
    ///
    /// # Errors
    /// The key file is missing, unreadable, malformed, or readable by others; the place is where the configuration
    /// names it.
    pub fn key(&self) -> Result<ClusterKey, ConfigError> {
        key::read(&self.key_file).map_err(|error| {
            let problem = match &self.key_file_span {
                Some(span) => Problem::at(span.clone(), error.to_string()),
                None => Problem::of_file(error.to_string()),
            };
            self.source.error(vec![problem.help(error.remedy())])
        })
    }

    /// What the machines of node `me` need to know.
    pub fn node_config(&self, me: NodeId, key: ClusterKey) -> NodeConfig {
        NodeConfig {
            cluster: self.cluster.clone(),
            key,
            me,
            nodes: self.nodes.clone(),
            vips: self.vips.clone(),
            timing: self.timing,
            balance: self.balance,
            multicast: self.multicast.is_some(),
            safety: self.safety,
            must_reach: self.must_reach.clone(),
        }
    }
}

fn syntax_problem(error: &toml::de::Error) -> Problem {
    let message = format!("this is not TOML: {}", error.message().trim_end());
    let problem = match error.span() {
        Some(span) => Problem::at(span, message),
        None => Problem::of_file(message),
    };
    if error.message().starts_with("duplicate key") {
        return problem.help(
            "each key and each [table] stands once; [[nodes]] and [[vips]] have two brackets each time",
        );
    }
    problem
}

/// A unicast address that a machine or a VIP can have, or why it is none.
fn usable(address: IpAddr) -> Result<IpAddr, &'static str> {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() {
        Err("the unspecified address")
    } else if address.is_multicast() {
        Err("a multicast address")
    } else if matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) {
        Err("the broadcast address")
    } else if mapped {
        Err("an IPv4 address in IPv6 clothing")
    } else {
        Ok(address)
    }
}
