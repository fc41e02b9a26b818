//! `[[nodes]]`: the machines of the cluster.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use wackamole_protocol::config::NodeDefinition;
use wackamole_protocol::id::NodeId;

use super::document::{Located, Section, Value};
use super::report::{Problem, Span};
use super::settings::{Network, name};
use super::{defaults, usable};

/// A heartbeat has an entry for each peer and must fit a datagram of 1 200 bytes.
const NODES_MAX: usize = 48;
/// Networks that the nodes share.
const ADDRESSES_MAX: usize = 8;
/// Large enough for any ratio that makes sense, small enough that sums never overflow.
const WEIGHT_MAX: u64 = 1_000;

const ADDRESSES_LIKE: &str = "addresses = [\"10.77.0.11\"]";

/// The nodes of a file, and where they stand.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    complete: bool,
}

struct Node {
    definition: NodeDefinition,
    name_span: Span,
    address_spans: Vec<Span>,
}

impl Nodes {
    pub(super) fn into_definitions(self) -> Vec<NodeDefinition> {
        self.nodes.into_iter().map(|node| node.definition).collect()
    }

    pub(super) fn definitions(&self) -> Vec<NodeDefinition> {
        self.nodes.iter().map(|node| node.definition.clone()).collect()
    }

    /// There are some, and each could be read.
    pub(super) fn complete(&self) -> bool {
        self.complete
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.definition.name.as_str())
    }

    /// Whose own address this is, and where that is written.
    pub(super) fn with_address(&self, address: IpAddr) -> Option<(&str, Span)> {
        self.addresses()
            .find(|(_, socket, _)| socket.ip() == address)
            .map(|(node, _, span)| (node.definition.name.as_str(), span))
    }

    fn addresses(&self) -> impl Iterator<Item = (&Node, SocketAddr, Span)> {
        self.nodes.iter().flat_map(|node| {
            let spans = node.address_spans.iter().cloned();
            node.definition.addresses.iter().zip(spans).map(move |(&a, span)| (node, a, span))
        })
    }
}

pub(super) fn read(root: &Section<'_>, network: &Network, problems: &mut Vec<Problem>) -> Nodes {
    let sections = root.tables("nodes", problems);
    if root.find("nodes").is_none() || (sections.is_empty() && problems.is_empty()) {
        problems.push(Problem::of_file("there are no nodes").help(format!(
            "write a section for each machine: [[nodes]], name = \"a\", {ADDRESSES_LIKE}"
        )));
    }
    if let Some(first_too_many) = sections.get(NODES_MAX) {
        problems.push(
            first_too_many
                .problem(format!("there are {} nodes", sections.len()))
                .help(format!("at most {NODES_MAX}: a heartbeat must fit one datagram")),
        );
    }
    let before = problems.len();
    let nodes: Vec<_> =
        sections.iter().filter_map(|section| node(section, network.port, problems)).collect();
    let complete = !nodes.is_empty() && nodes.len() == sections.len();
    let nodes = Nodes { nodes, complete };
    check_names(&nodes, problems);
    check_addresses(&nodes, problems);
    if problems.len() == before {
        // Not while addresses are missing: the n-th would be compared with another network's.
        check_families(&nodes, network, problems);
    }
    nodes
}

fn node(section: &Section<'_>, port: u16, problems: &mut Vec<Problem>) -> Option<Node> {
    section.only(&["name", "addresses", "weight", "witness"], problems);
    let like = "name = \"a\"";
    let name = section.required("name", like, problems, |value| name(value, like));
    let elements = section
        .required("addresses", ADDRESSES_LIKE, problems, |value| {
            let elements: Vec<_> = value.array(ADDRESSES_LIKE)?.collect();
            let wrong = |found: String| {
                let problem = Problem::at(value.span(), found);
                Err(problem.help(format!("a node has 1 to {ADDRESSES_MAX} addresses")))
            };
            match elements.len() {
                0 => wrong("a node without an address".into()),
                1..=ADDRESSES_MAX => Ok(elements),
                many => wrong(format!("a node with {many} addresses")),
            }
        })
        .map_or(Vec::new(), |elements| elements.value);
    let mut addresses = Vec::new();
    for element in elements {
        match address(element, port) {
            Ok(address) => addresses.push(address),
            Err(problem) => problems.push(problem),
        }
    }
    let weight = section
        .optional("weight", problems, |value| value.integer(1, WEIGHT_MAX, "weight = 2"))
        .and_then(|weight| u32::try_from(weight.value).ok());
    let witness = section.optional("witness", problems, |value| value.boolean("witness = true"));
    let Located { value: name, span: name_span } = name?;
    Some(Node {
        definition: NodeDefinition {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| address.value).collect(),
            weight: weight.unwrap_or(defaults::WEIGHT),
            witness: witness.is_some_and(|witness| witness.value),
        },
        name_span,
        address_spans: addresses.into_iter().map(|address| address.span).collect(),
    })
}

/// `10.77.0.11`, or with a port of its own `10.77.0.11:4900`.
fn address(value: Value<'_>, port: u16) -> Result<Located<SocketAddr>, Problem> {
    let text = value.text(ADDRESSES_LIKE)?;
    let problem = |found: String| Problem::at(value.span(), found);
    let socket = match text.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port),
        Err(_) => text.parse::<SocketAddr>().map_err(|_| {
            problem(format!("\"{text}\" is not an IP address")).help(
                "write \"10.77.0.11\" or \"fd00::11\"; with a port of its own \"10.77.0.11:4900\" or \"[fd00::11]:4900\"",
            )
        })?,
    };
    let accepted = "a node's address is a unicast address that is always on the machine";
    if let Err(what) = usable(socket.ip()) {
        return Err(problem(format!("{} is {what}", socket.ip())).help(accepted));
    }
    if matches!(socket.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(problem(format!("{} is link-local", socket.ip()))
            .help("it means something else on each interface; write a global or a unique local (fd00::/8) address"));
    }
    if socket.port() == 0 {
        return Err(problem(format!("{socket} has the port 0")).help("1 to 65535 is accepted"));
    }
    Ok(Located { value: socket, span: value.span() })
}

fn check_names(nodes: &Nodes, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<NodeId, &Node> = BTreeMap::new();
    for node in &nodes.nodes {
        let Some(first) = seen.insert(node.definition.id(), node) else { continue };
        let name = &node.definition.name;
        let problem = if first.definition.name == *name {
            Problem::at(node.name_span.clone(), format!("a second node is called {name}"))
                .see(first.name_span.clone(), "the first one")
        } else {
            let other = &first.definition.name;
            Problem::at(
                node.name_span.clone(),
                format!("{name} and {other} have the same hash, by which daemons tell nodes apart"),
            )
            .see(first.name_span.clone(), format!("{other} is named"))
            .help("rename one of them")
        };
        problems.push(problem);
    }
}

fn check_addresses(nodes: &Nodes, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<SocketAddr, (&Node, Span)> = BTreeMap::new();
    for (node, address, span) in nodes.addresses() {
        if let Some((first, first_span)) = seen.insert(address, (node, span.clone())) {
            let (own, other) = (&node.definition.name, &first.definition.name);
            let again = if own == other {
                "it has it already".to_owned()
            } else {
                format!("{other} has it as well")
            };
            problems.push(
                Problem::at(span, format!("{own} has the address {address}"))
                    .see(first_span, again),
            );
        }
    }
}

fn check_families(nodes: &Nodes, network: &Network, problems: &mut Vec<Problem>) {
    let Some(first) = nodes.nodes.first() else { return };
    for node in &nodes.nodes {
        let pairs = node.definition.addresses.iter().zip(&first.definition.addresses);
        for (index, (own, firsts)) in pairs.enumerate() {
            if own.is_ipv4() != firsts.is_ipv4() {
                problems.push(
                    Problem::at(
                        node.address_spans[index].clone(),
                        format!(
                            "address {} of {} is {own}, of {} {firsts}",
                            index + 1,
                            node.definition.name,
                            first.definition.name
                        ),
                    )
                    .help(
                        "the n-th addresses of all nodes are on one network: all IPv4 or all IPv6",
                    ),
                );
            }
        }
    }
    let Some(group) = &network.multicast else { return };
    let lacks = |node: &&Node| {
        node.definition.addresses.iter().all(|own| own.is_ipv4() != group.value.is_ipv4())
    };
    if let Some(node) = nodes.nodes.iter().find(lacks) {
        let (family, node) = (if group.value.is_ipv4() { "IPv4" } else { "IPv6" }, node);
        problems.push(
            Problem::at(
                group.span.clone(),
                format!("the group {} is {family}, and {} has no {family} address", group.value.ip(), node.definition.name),
            )
            .help("take a group of a family in which all nodes have an address: it is used on the network of the first of them"),
        );
    }
}
