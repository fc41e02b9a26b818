//! `[[vips]]`: the addresses that move.
//!
//! Three ways to write them: a `range` makes one VIP for each address, `address` one VIP, `addresses` one VIP of
//! several addresses that always move together. `interface` and `prefix` of the section hold for every address that
//! does not name its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use wackamole_protocol::config::VipDefinition;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::vip::{Vip, VipAddress, VipId};

use super::document::{Section, Value, closest, list};
use super::nodes::Nodes;
use super::report::{Problem, Span};
use super::settings::name;
use super::usable;

/// VIPs of a cluster; the bitmap of those that a node holds must fit a few datagrams.
const VIPS_MAX: usize = 65_536;
/// Addresses of one VIP.
const SET_MAX: usize = 64;

const RANGE_LIKE: &str = "range = \"10.77.1.1-10.77.1.10\"";
const ADDRESS_LIKE: &str = "address = \"10.77.2.1@eth0\"";
const ADDRESSES_LIKE: &str = "addresses = [\"10.77.2.1/24@eth0\", \"fd00:77::1/64@eth1\"]";
const INTERFACE_LIKE: &str = "interface = \"eth0\"";

/// The VIPs of a file.
#[derive(Default)]
pub(super) struct Vips {
    pub(super) definitions: Vec<VipDefinition>,
    /// Every interface, and where it is first named.
    pub(super) interfaces: BTreeMap<String, Span>,
    addresses: BTreeMap<IpAddr, (String, Span)>,
    names: BTreeMap<String, Span>,
    ids: BTreeMap<VipId, Span>,
}

pub(super) fn read(root: &Section<'_>, nodes: &Nodes, problems: &mut Vec<Problem>) -> Vips {
    let sections = root.tables("vips", problems);
    if root.find("vips").is_none() || (sections.is_empty() && problems.is_empty()) {
        problems.push(
            Problem::of_file("there are no VIPs").help(format!(
                "write at least one section: [[vips]], {RANGE_LIKE}, {INTERFACE_LIKE}"
            )),
        );
    }
    let mut vips = Vips::default();
    for section in &sections {
        vips.section(section, nodes, problems);
    }
    vips
}

/// What the section says for all its addresses.
struct Common {
    interface: Option<(String, Span)>,
    prefix: Option<(u8, Span)>,
    prefer: Vec<NodeId>,
}

impl Vips {
    /// Where the VIP with this address stands.
    pub(super) fn with_address(&self, address: IpAddr) -> Option<Span> {
        self.addresses.get(&address).map(|(_, span)| span.clone())
    }

    fn section(&mut self, section: &Section<'_>, nodes: &Nodes, problems: &mut Vec<Problem>) {
        section.only(
            &["name", "range", "address", "addresses", "interface", "prefix", "prefer"],
            problems,
        );
        let forms = ["range", "address", "addresses"];
        let used: Vec<_> = forms.into_iter().filter(|form| section.find(form).is_some()).collect();
        let before = problems.len();
        let common = common(section, nodes, problems);
        let named = section.optional("name", problems, |v| name(v, "name = \"gateway\""));
        let name = named.as_ref().map(|name| (name.value, name.span.clone()));
        let sound = problems.len() == before;
        match used[..] {
            ["range"] => {
                if let Some((_, span)) = name {
                    problems.push(
                        Problem::at(span, "a range with a name").help(
                            "a range makes one VIP for each address, called by its address: take the name away",
                        ),
                    );
                }
                let range = section.optional("range", problems, |value| {
                    let range = range(value)?;
                    self.check_count(range.count, value.span())?;
                    Ok((range, value))
                });
                if let Some((range, value)) = range.map(|range| range.value)
                    && sound
                {
                    self.add_range(&range, value, &common, nodes, problems);
                }
            }
            [form] => {
                let elements = if form == "address" {
                    section.find("address").into_iter().collect()
                } else {
                    section
                        .optional("addresses", problems, set)
                        .map_or(Vec::new(), |elements| elements.value)
                };
                if sound {
                    self.add_set(&elements, name, &common, nodes, problems);
                }
            }
            [] => problems.push(
                section.problem("[[vips]] without an address").help(format!(
                    "write {RANGE_LIKE}, {ADDRESS_LIKE}, or {ADDRESSES_LIKE}"
                )),
            ),
            [first, second, ..] => problems.push(
                section.problem(format!("[[vips]] with both `{first}` and `{second}`")).help(
                    "`range` makes one VIP for each address, `address` one VIP, `addresses` one VIP of several; write a section for each",
                ),
            ),
        }
    }

    fn add_range(
        &mut self,
        range: &AddressRange,
        value: Value<'_>,
        common: &Common,
        nodes: &Nodes,
        problems: &mut Vec<Problem>,
    ) {
        for address in range.addresses() {
            let written = Written {
                address,
                prefix: None,
                interface: None,
                in_range: true,
                span: value.span(),
            };
            match self.complete(written, common, nodes) {
                Ok(address) => {
                    let name = address.address.to_string();
                    self.add(Vip::new(name, vec![address]), value.span(), common, problems);
                }
                Err(problem) => {
                    // The other addresses of the range mostly suffer from the same.
                    problems.push(problem);
                    return;
                }
            }
        }
    }

    fn add_set(
        &mut self,
        elements: &[Value<'_>],
        name: Option<(&str, Span)>,
        common: &Common,
        nodes: &Nodes,
        problems: &mut Vec<Problem>,
    ) {
        let mut addresses = Vec::new();
        for &element in elements {
            match written(element).and_then(|written| self.complete(written, common, nodes)) {
                Ok(address) => addresses.push(address),
                Err(problem) => problems.push(problem),
            }
        }
        let Some(first) = elements.first() else { return };
        if addresses.len() < elements.len() {
            return;
        }
        if let Err(problem) = self.check_count(1, first.span()) {
            problems.push(problem);
            return;
        }
        let (name, span) = name.map_or_else(
            || {
                let all: Vec<_> = addresses.iter().map(|a| a.address.to_string()).collect();
                (all.join("+"), first.span())
            },
            |(name, span)| (name.to_owned(), span),
        );
        self.add(Vip::new(name, addresses), span, common, problems);
    }

    /// Adds a VIP whose addresses are good.
    fn add(&mut self, vip: Vip, span: Span, common: &Common, problems: &mut Vec<Problem>) {
        let name = vip.name().to_owned();
        if let Some(first) = self.names.insert(name.clone(), span.clone()) {
            problems.push(
                Problem::at(span, format!("a second VIP is called {name}"))
                    .see(first, "the first one")
                    .help("give it another `name`"),
            );
            return;
        }
        if let Some(first) = self.ids.insert(vip.id(), span.clone()) {
            problems.push(
                Problem::at(span, "two VIPs have the same hash, by which daemons tell them apart")
                    .see(first, "the other one")
                    .help("change a prefix length or the addresses of one of them"),
            );
            return;
        }
        self.definitions.push(VipDefinition { vip: Arc::new(vip), prefer: common.prefer.clone() });
    }

    /// Adds what the section says for all its addresses, and checks the outcome against the rest of the file.
    fn complete(
        &mut self,
        written: Written,
        common: &Common,
        nodes: &Nodes,
    ) -> Result<VipAddress, Problem> {
        let Written { address, span, .. } = written;
        let Some((interface, interface_span)) =
            written.interface.map(|own| (own, span.clone())).or_else(|| common.interface.clone())
        else {
            let problem = Problem::at(span, format!("{address} is on no interface"));
            return Err(problem.help(if written.in_range {
                format!("write {INTERFACE_LIKE} below it")
            } else {
                format!("write \"{address}@eth0\", or {INTERFACE_LIKE} for the whole section")
            }));
        };
        let host = if address.is_ipv4() { 32 } else { 128 };
        let (prefix, prefix_span) = written
            .prefix
            .map(|own| (own, span.clone()))
            .or_else(|| common.prefix.clone())
            .unwrap_or((host, span.clone()));
        if prefix == 0 || prefix > host {
            let problem = format!("a prefix of {prefix} bits for {address}");
            return Err(Problem::at(prefix_span, problem)
                .help(format!("1 to {host} is accepted; without one it is {host}")));
        }
        check_usable(address, prefix, &span)?;
        if let Some((node, own)) = nodes.with_address(address) {
            return Err(Problem::at(span, format!("the VIP {address} is {node}'s own address"))
                .see(own, format!("{node}'s addresses"))
                .help("a VIP moves between machines; a machine's own address must stay: take another one"));
        }
        if let Some((_, first)) = self.addresses.get(&address) {
            return Err(Problem::at(span, format!("the VIP {address} is there twice"))
                .see(first.clone(), "the first time"));
        }
        self.addresses.insert(address, (interface.clone(), span));
        self.interfaces.entry(interface.clone()).or_insert(interface_span);
        Ok(VipAddress { address, prefix, interface })
    }

    fn check_count(&self, more: u128, span: Span) -> Result<(), Problem> {
        let count = more.saturating_add(self.definitions.len() as u128);
        if count > VIPS_MAX as u128 {
            return Err(Problem::at(span, format!("this makes {count} VIPs"))
                .help(format!("a cluster has at most {VIPS_MAX}")));
        }
        Ok(())
    }
}

fn common(section: &Section<'_>, nodes: &Nodes, problems: &mut Vec<Problem>) -> Common {
    let interface = section.optional("interface", problems, |value| {
        let text = value.text(INTERFACE_LIKE)?;
        interface(text).map_err(|found| interface_problem(value.span(), &found))
    });
    let prefix = section.optional("prefix", problems, |value| value.integer(1, 128, "prefix = 24"));
    let prefer = section.optional("prefer", problems, |value| {
        let mut prefer = Vec::new();
        for element in value.array("prefer = [\"a\"]")? {
            let Some(node) = preferred(element, nodes)? else { continue };
            if prefer.contains(&node) {
                let name = element.text("\"a\"")?;
                return Err(Problem::at(element.span(), format!("{name} is preferred twice"))
                    .help("name each node once, the best one first"));
            }
            prefer.push(node);
        }
        Ok(prefer)
    });
    Common {
        interface: interface.map(|interface| (interface.value, interface.span)),
        prefix: prefix.and_then(|p| Some((u8::try_from(p.value).ok()?, p.span))),
        prefer: prefer.map_or(Vec::new(), |prefer| prefer.value),
    }
}

/// Nothing if it may be one of the nodes that could not be read.
fn preferred(value: Value<'_>, nodes: &Nodes) -> Result<Option<NodeId>, Problem> {
    let name = value.text("\"a\"")?;
    if nodes.names().any(|node| node == name) {
        return Ok(Some(NodeId::from_name(name)));
    }
    if !nodes.complete() {
        return Ok(None);
    }
    let problem = Problem::at(value.span(), format!("there is no node \"{name}\""));
    Err(match closest(name, nodes.names()) {
        Some(meant) => problem.help(format!("did you mean \"{meant}\"?")),
        None => problem.help(format!("the nodes are: {}", list(nodes.names()))),
    })
}

fn set(value: Value<'_>) -> Result<Vec<Value<'_>>, Problem> {
    let elements: Vec<_> = value.array(ADDRESSES_LIKE)?.collect();
    let accepted = format!("a VIP has 1 to {SET_MAX} addresses, as in {ADDRESSES_LIKE}");
    match elements.len() {
        0 => Err(Problem::at(value.span(), "a VIP without an address").help(accepted)),
        1..=SET_MAX => Ok(elements),
        many => Err(Problem::at(value.span(), format!("a VIP of {many} addresses")).help(accepted)),
    }
}

/// An address as it stands in the file.
struct Written {
    address: IpAddr,
    prefix: Option<u8>,
    interface: Option<String>,
    /// It stands for its whole range.
    in_range: bool,
    span: Span,
}

/// Reads `address[/prefix][@interface]`.
fn written(value: Value<'_>) -> Result<Written, Problem> {
    const ACCEPTED: &str =
        "write address/prefix@interface, such as \"10.77.2.1/24@eth0\" or \"fd00:77::1@eth1\"";
    let text = value.text("\"10.77.2.1/24@eth0\"")?;
    let (rest, interface_text) = match text.split_once('@') {
        Some((rest, interface)) => (rest, Some(interface)),
        None => (text, None),
    };
    let (address, prefix) = match rest.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (rest, None),
    };
    let problem = |found: String| Problem::at(value.span(), found).help(ACCEPTED);
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(problem(format!("\"{address}\" is not an IP address")));
    };
    let prefix = prefix
        .map(|prefix| {
            prefix
                .parse::<u8>()
                .map_err(|_| problem(format!("\"{prefix}\" is not a prefix length")))
        })
        .transpose()?;
    let interface = interface_text
        .map(|text| interface(text).map_err(|found| interface_problem(value.span(), &found)))
        .transpose()?;
    Ok(Written { address, prefix, interface, in_range: false, span: value.span() })
}

/// What the kernel accepts as an interface name (`dev_valid_name` in net/core/dev.c), or what is wrong.
fn interface(text: &str) -> Result<String, String> {
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(odd) {
        return Err(format!("\"{text}\" cannot be the name of an interface"));
    }
    Ok(text.to_owned())
}

fn interface_problem(span: Span, found: &str) -> Problem {
    Problem::at(span, found).help("1 to 15 bytes without space, / and :, as `ip link` shows it")
}

fn check_usable(address: IpAddr, prefix: u8, span: &Span) -> Result<(), Problem> {
    let unusable = |what: &str| {
        Err(Problem::at(span.clone(), format!("the VIP {address} is {what}"))
            .help("a VIP is a unicast address that clients can reach"))
    };
    if let Err(what) = usable(address) {
        return unusable(what);
    }
    if address.is_loopback() {
        return unusable("a loopback address");
    }
    let IpAddr::V4(v4) = address else { return Ok(()) };
    // RFC 3021: with 31 bits there is neither a network nor a broadcast address.
    if prefix < 31 {
        let host_mask = u32::MAX >> prefix;
        let host = v4.to_bits() & host_mask;
        if host == 0 {
            return unusable(&format!("the network address of its own /{prefix}"));
        }
        if host == host_mask {
            return unusable(&format!("the broadcast address of its own /{prefix}"));
        }
    }
    Ok(())
}

/// The first address and how many follow, itself included.
struct AddressRange {
    first: IpAddr,
    count: u128,
}

impl AddressRange {
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let first = self.first;
        (0..self.count).map(move |offset| match first {
            // The range was read from two addresses, so the sum stays within the family.
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add(offset as u32)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add(offset)).into(),
        })
    }
}

fn range(value: Value<'_>) -> Result<AddressRange, Problem> {
    let text = value.text(RANGE_LIKE)?;
    let problem = |found: String| Problem::at(value.span(), found);
    let Some((first_text, last_text)) = text.split_once('-') else {
        return Err(problem(format!("\"{text}\" is not a range")).help(format!(
            "write the first and the last address, {RANGE_LIKE}; a single one is {ADDRESS_LIKE}"
        )));
    };
    let (first_text, last_text) = (first_text.trim(), last_text.trim());
    let parse = |text: &str| text.parse::<IpAddr>();
    let Ok(first) = parse(first_text) else {
        return Err(problem(format!("\"{first_text}\" is not an IP address"))
            .help(format!("write it like {RANGE_LIKE}")));
    };
    let Ok(last) = parse(last_text) else {
        let whole = first_text.rsplit_once(['.', ':']).map(|(network, _)| {
            format!("{network}{}{last_text}", if first.is_ipv4() { "." } else { ":" })
        });
        let problem = problem(format!("\"{last_text}\" is not an IP address"));
        return Err(match whole.filter(|whole| parse(whole).is_ok()) {
            Some(whole) => problem.help(format!("did you mean \"{first_text}-{whole}\"?")),
            None => problem.help(format!("write it like {RANGE_LIKE}")),
        });
    };
    let (first_bits, last_bits) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (u128::from(first.to_bits()), u128::from(last.to_bits()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
        _ => {
            return Err(problem(format!("a range from {first} to {last}"))
                .help("both ends are IPv4 or both are IPv6"));
        }
    };
    if last_bits < first_bits {
        return Err(problem(format!("the range ends at {last}, before it starts at {first}"))
            .help(format!("write \"{last}-{first}\"")));
    }
    Ok(AddressRange { first, count: (last_bits - first_bits).saturating_add(1) })
}
