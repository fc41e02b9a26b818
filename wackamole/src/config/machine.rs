//! What the machine adds to the file: which node it is, and whether its interfaces fit.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use wackamole_protocol::config::NodeDefinition;

use super::document::{closest, list};
use super::report::Problem;
use super::{Config, ConfigError};

/// What the configuration needs to know of the machine it is used on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its host name, with or without a domain.
    pub host_name: String,
    /// The names of its interfaces.
    pub interfaces: BTreeSet<String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Machine {
    /// Asks the system.
    ///
    /// # Errors
    /// The system does not say.
    pub fn observe() -> io::Result<Self> {
        let host_name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        let mut machine = Self { host_name, ..Self::default() };
        // getifaddrs(3) has an entry for each interface, and one for each of its addresses.
        for entry in getifaddrs()? {
            machine.interfaces.insert(entry.interface_name);
            if let Some(storage) = entry.address {
                let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                let v6 = storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
                machine.addresses.extend(v4.or(v6));
            }
        }
        Ok(machine)
    }

    fn is_called(&self, node: &NodeDefinition) -> bool {
        let short = self.host_name.split('.').next().unwrap_or_default();
        node.name == self.host_name || node.name == short
    }

    fn has_address_of(&self, node: &NodeDefinition) -> bool {
        node.addresses.iter().any(|address| self.addresses.contains(&address.ip()))
    }
}

impl Config {
    /// Which node this machine is: the one named on the command line, or the one that is called like the host, or the
    /// one whose address is here.
    ///
    /// # Errors
    /// There is no such node, or it cannot be told; the error lists the nodes.
    pub fn identify(
        &self,
        named: Option<&str>,
        machine: &Machine,
    ) -> Result<&NodeDefinition, ConfigError> {
        let error = |problem: Problem| Err(self.source.error(vec![problem]));
        let names = || self.nodes.iter().map(|node| node.name.as_str());
        if let Some(named) = named {
            if let Some(node) = self.nodes.iter().find(|node| node.name == named) {
                return Ok(node);
            }
            let problem = Problem::of_file(format!("there is no node \"{named}\""));
            return error(match closest(named, names()) {
                Some(meant) => problem.help(format!("did you mean \"{meant}\"?")),
                None => problem.help(format!("the nodes are: {}", list(names()))),
            });
        }
        let here: Vec<_> = self.nodes.iter().filter(|n| machine.has_address_of(n)).collect();
        let called = self.nodes.iter().find(|node| machine.is_called(node));
        match (called, &here[..]) {
            (Some(called), []) => Ok(called),
            (Some(called), here) if here.contains(&called) => Ok(called),
            (Some(called), here) => error(
                Problem::of_file(format!(
                    "this machine is called {} like a node, but has an address of {}",
                    called.name,
                    list(here.iter().map(|node| node.name.as_str()))
                ))
                .help("say which node it is: --node NAME"),
            ),
            (None, [node]) => Ok(node),
            (None, []) => error(
                Problem::of_file(format!(
                    "which node is this machine? No node is called {}, and no node's address is here",
                    machine.host_name
                ))
                .help(self.candidates())
                .help("say which node it is: --node NAME"),
            ),
            (None, here) => error(
                Problem::of_file(format!(
                    "which node is this machine? It has addresses of {}",
                    list(here.iter().map(|node| node.name.as_str()))
                ))
                .help("say which node it is: --node NAME"),
            ),
        }
    }

    /// Checks that every interface that carries a VIP exists.
    ///
    /// # Errors
    /// Each interface that does not, and those that do.
    pub fn check_interfaces(&self, existing: &BTreeSet<String>) -> Result<(), ConfigError> {
        let existing = || existing.iter().map(String::as_str);
        let problems: Vec<_> = self
            .interfaces
            .iter()
            .filter(|(name, _)| !existing().any(|known| known == *name))
            .map(|(name, span)| {
                let message = format!("there is no interface {name} on this machine");
                Problem::at(span.clone(), message)
                    .help(format!("its interfaces are: {}", list(existing())))
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(self.source.error(problems)) }
    }

    fn candidates(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let addresses: Vec<_> = node.addresses.iter().map(|a| a.ip().to_string()).collect();
            format!("{} ({})", node.name, addresses.join(", "))
        });
        let nodes: Vec<_> = nodes.collect();
        format!("the nodes are: {}", list(nodes.iter().map(String::as_str)))
    }
}
