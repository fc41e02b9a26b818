//! `must_reach` of `[safety]`: addresses of which one has to answer before a primary view is proposed that loses anybody.

use std::net::IpAddr;

use wackamole_protocol::config::Partition;

use super::document::{Located, Section, Value};
use super::nodes::Nodes;
use super::report::Problem;
use super::usable;
use super::vips::Vips;

const LIKE: &str = "must_reach = [\"192.0.2.1\", \"fd00::1\"]";
/// Each is asked once a heartbeat.
const ADDRESSES_MAX: usize = 8;

pub(super) fn read(
    root: &Section<'_>,
    partition: Partition,
    nodes: &Nodes,
    vips: &Vips,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let section = root.table("safety", &mut Vec::new()); // that it is none is told by whoever reads the rest
    let Some(value) = section.find("must_reach") else { return Vec::new() };
    let mut addresses: Vec<Located<IpAddr>> = Vec::new();
    let before = problems.len();
    match value.array(LIKE) {
        Ok(elements) => {
            for element in elements {
                let address =
                    address(element).and_then(|address| check(address, &addresses, nodes, vips));
                match address {
                    Ok(address) => addresses.push(address),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        Err(problem) => problems.push(problem),
    }
    if problems.len() == before && !(1..=ADDRESSES_MAX).contains(&addresses.len()) {
        let found = match addresses.len() {
            0 => "`must_reach` is empty".to_owned(),
            count => format!("`must_reach` has {count} addresses"),
        };
        problems.push(Problem::at(value.span(), found).help(format!(
            "1 to {ADDRESSES_MAX} are accepted, like {LIKE}; one that answers is enough. Without the line nothing is asked"
        )));
    }
    if partition != Partition::Quorum
        && let Some(span) = section.key_span("must_reach")
    {
        let policy = if partition == Partition::Lan { "lan" } else { "component" };
        let default = if section.find("partition").is_some() { "" } else { " (the default)" };
        let found = format!("`must_reach` means nothing with `partition` = \"{policy}\"{default}");
        problems.push(
            Problem::at(span, found).help(
                "it is accepted with partition = \"quorum\" only: change that, or take it out",
            ),
        );
    }
    addresses.into_iter().map(|address| address.value).collect()
}

fn address(value: Value<'_>) -> Result<Located<IpAddr>, Problem> {
    let text = value.text(LIKE)?;
    let problem = |found: String| Problem::at(value.span(), found);
    let address: IpAddr = text.parse().map_err(|_| {
        problem(format!("\"{text}\" is not an IP address")).help(format!("write it like {LIKE}"))
    })?;
    let accepted = "accepted is the address of something that is always there and answers to ping, such as a router";
    if let Err(what) = usable(address) {
        return Err(problem(format!("{address} is {what}")).help(accepted));
    }
    if address.is_loopback() {
        return Err(
            problem(format!("{address} is a loopback address: it always answers")).help(accepted)
        );
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(problem(format!("{address} is link-local")).help(
            "it means something else on each interface; write a global or a unique local (fd00::/8) address",
        ));
    }
    Ok(Located { value: address, span: value.span() })
}

fn check(
    address: Located<IpAddr>,
    before: &[Located<IpAddr>],
    nodes: &Nodes,
    vips: &Vips,
) -> Result<Located<IpAddr>, Problem> {
    let Located { value, span } = &address;
    let accepted =
        "whoever is cut off still reaches itself: take something that is neither a node nor a VIP";
    if let Some(first) = before.iter().find(|first| first.value == *value) {
        return Err(Problem::at(span.clone(), format!("{value} is in `must_reach` twice"))
            .see(first.span.clone(), "the first time")
            .help("each address is accepted once"));
    }
    if let Some((node, own)) = nodes.with_address(*value) {
        return Err(Problem::at(span.clone(), format!("{value} is {node}'s own address"))
            .see(own, format!("{node}'s addresses"))
            .help(accepted));
    }
    if let Some(vip) = vips.with_address(*value) {
        return Err(Problem::at(span.clone(), format!("{value} is a VIP"))
            .see(vip, "the VIP")
            .help(accepted));
    }
    Ok(address)
}
