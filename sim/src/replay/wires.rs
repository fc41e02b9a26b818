//! What was on the wires between recorded machines: what one sent, and when another one of them got it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wackamole_protocol::config::ClusterKey;
use wackamole_protocol::group::Destination;
use wackamole_protocol::time::Instant;

use super::account::Account;
use super::clocks::Clocks;
use super::{Fingerprint, Replayed, Sent, fingerprint};
use crate::journal::{Entry, What};

/// Records of one machine: its earlier and later starts.
struct Machine<'a> {
    /// Its position in the account.
    node: usize,
    /// Its configured addresses, as [`Destination::Peer`] names them.
    addresses: BTreeSet<std::net::SocketAddr>,
    /// What it got, and when.
    received: BTreeMap<Fingerprint, Vec<Duration>>,
    /// When its daemons ran.
    ran: Vec<[Duration; 2]>,
    sent: Vec<(Duration, &'a Sent)>,
}

/// Every datagram from one recorded machine to another one, by the time at which it was sent.
pub(super) fn datagrams(records: &[Replayed], clocks: &Clocks, account: &Account) -> Vec<Entry> {
    let machines = machines(records, clocks, account);
    let mut entries = Vec::new();
    for sender in &machines {
        for receiver in machines.iter().filter(|machine| machine.node != sender.node) {
            let is_for = |sent: &Sent| match sent.to {
                Destination::Peer(address) => receiver.addresses.contains(&address),
                Destination::Group => true,
            };
            let theirs: Vec<_> = sender.sent.iter().filter(|(_, sent)| is_for(sent)).collect();
            let arrivals: Vec<_> =
                theirs.iter().map(|(at, sent)| receiver.arrival(*at, sent)).collect();
            let delay = usual_delay(&theirs, &arrivals);
            for ((at, sent), arrival) in theirs.into_iter().zip(arrivals) {
                let expected = *at + delay;
                let fate = match arrival {
                    Some(_) => "delivered",
                    None if receiver.is_running(expected) => "lost",
                    None => "nobody was running there",
                };
                let what = What::Datagram {
                    from: sender.node,
                    to: receiver.node,
                    bytes: sent.bytes.clone(),
                    sent: *at,
                    // Clocks that agree within so much may let it arrive before it was sent.
                    arrives: arrival.unwrap_or(expected).max(*at),
                    fate,
                };
                entries.push(Entry { at: *at, what });
            }
        }
    }
    entries.sort_by_key(|entry| entry.at);
    entries
}

impl Machine<'_> {
    /// When it got a datagram that was sent then; of several with the same bytes, the one that fits best.
    fn arrival(&self, sent_at: Duration, sent: &Sent) -> Option<Duration> {
        let times = self.received.get(&fingerprint(&sent.bytes))?;
        times.iter().copied().min_by_key(|at| at.abs_diff(sent_at))
    }

    fn is_running(&self, at: Duration) -> bool {
        self.ran.iter().any(|[from, to]| *from <= at && at <= *to)
    }
}

fn machines<'a>(records: &'a [Replayed], clocks: &Clocks, account: &Account) -> Vec<Machine<'a>> {
    let mut machines: BTreeMap<usize, Machine<'a>> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let at = |instant: Instant| clocks.common(index, instant).saturating_sub(account.begins);
        let name = &record.header.node;
        let Some(node) = account.scenario.nodes.iter().position(|node| node.name == *name) else {
            continue;
        };
        let machine = machines.entry(node).or_insert_with(|| Machine {
            node,
            addresses: BTreeSet::new(),
            received: BTreeMap::new(),
            ran: Vec::new(),
            sent: Vec::new(),
        });
        let config = record.header.config(ClusterKey(crate::world::KEY));
        let own = config.nodes.into_iter().filter(|node| node.id() == config.me);
        machine.addresses.extend(own.flat_map(|node| node.addresses));
        for (instant, which) in &record.received {
            machine.received.entry(*which).or_default().push(at(*instant));
        }
        machine.ran.push([at(record.header.started()), at(record.last)]);
        machine.sent.extend(record.sent.iter().map(|sent| (at(sent.at), sent)));
    }
    machines.into_values().collect()
}

/// The median time on the way.
fn usual_delay(sent: &[&(Duration, &Sent)], arrivals: &[Option<Duration>]) -> Duration {
    let arrived = sent.iter().zip(arrivals);
    let mut delays: Vec<Duration> = arrived
        .filter_map(|((at, _), arrival)| Some(arrival.as_ref()?.saturating_sub(*at)))
        .collect();
    delays.sort_unstable();
    delays.get(delays.len() / 2).copied().unwrap_or_default()
}
