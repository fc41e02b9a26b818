//! The datagrams of a simulated run, taken apart. A page that carries all of a long run would be too heavy; what is rare is
//! kept whole, and the rest is thinned out evenly where nothing happens.

use std::collections::BTreeMap;

use wackamole_protocol::group::message_kind;
use wackamole_protocol::id::ViewId;
use wackamole_protocol::wire::message::Body;

use super::build::{Source, micros};
use super::{Message, Messages, Micros, lanes};
use crate::journal::What;

/// At most so many are kept.
const KEPT_MAX: usize = 40_000;
/// Around a fault or a broken promise everything is kept that fits.
const NEAR: Micros = 700_000;

/// The kinds, the chatter last.
const KINDS: [&str; 6] = ["agreement", "link", "leave", "unreadable", "heartbeat", "echo"];
/// From this kind on it is chatter.
const CHATTER: usize = 4;

/// All datagrams that were recorded, or as many as a page can carry.
pub(super) fn messages(source: &Source<'_>) -> Messages {
    let names = lanes::names(source);
    let mut sent = Vec::new();
    for entry in &source.outcome.entries {
        let What::Datagram { from, to, bytes, sent: left, arrives, fate } = &entry.what else {
            continue;
        };
        let (kind, text) = match source.codec.open(bytes) {
            Ok((_, Body::Heartbeat(heartbeat))) if heartbeat.view == ViewId::NONE => {
                (4, "in no view".to_owned())
            }
            Ok((_, Body::Heartbeat(heartbeat))) => {
                (4, format!("in view {}", names.view(heartbeat.view)))
            }
            Ok((_, Body::Echo(_))) => (5, String::new()),
            Ok((_, Body::Leave(_))) => (2, "has released everything and goes".to_owned()),
            Ok((_, Body::Fragment(fragment))) => match message_kind(&fragment.bytes) {
                Some((kind, Some(view))) => (0, format!("{kind} {}", names.view(view))),
                Some((kind, None)) => (0, kind.to_owned()),
                None => (1, format!("piece {} of a message", fragment.number)),
            },
            Ok((_, Body::FragmentAck(ack))) => (1, format!("acknowledges all below {}", ack.next)),
            Err(rejection) => (3, format!("{rejection:?}")),
        };
        let lost = u8::from(*fate == "lost");
        let text = if *fate == "delivered" || lost == 1 { text } else { joined(text, fate) };
        sent.push(Message(micros(*left), micros(*arrives), *from, *to, kind, lost, text));
    }
    sent.sort_by_key(|message| message.0);
    let seen = sent.len();
    thin_out(&mut sent, &times(source));
    Messages { seen, kinds: KINDS.map(str::to_owned).to_vec(), sent }
}

fn joined(text: String, fate: &str) -> String {
    if text.is_empty() { fate.to_owned() } else { format!("{text}; {fate}") }
}

/// When something happened that makes chatter interesting.
fn times(source: &Source<'_>) -> Vec<Micros> {
    let matters = |what: &What| {
        matches!(what, What::Fault { .. } | What::Violation { .. } | What::Dark { .. })
    };
    source.entries.iter().filter(|e| matters(&e.what)).map(|e| micros(e.at)).collect()
}

/// Drops chatter until the rest fits: first where nothing happens, then everywhere.
fn thin_out(sent: &mut Vec<Message>, times: &[Micros]) {
    let near = |at: Micros| {
        let next = times.partition_point(|&time| time + NEAR < at);
        times.get(next).is_some_and(|&time| time <= at + NEAR)
    };
    for spare_the_near in [true, false] {
        let expendable = |m: &Message| m.4 >= CHATTER && !(spare_the_near && near(m.0));
        let spare = sent.iter().filter(|m| !expendable(m)).count();
        if sent.len() <= KEPT_MAX {
            return;
        }
        let room = KEPT_MAX.saturating_sub(spare).max(1);
        let step = (sent.len() - spare).div_ceil(room).max(1);
        // Whole rounds of each link go, so that what is left still looks like chatter.
        let mut counts: BTreeMap<(usize, usize, usize), usize> = BTreeMap::new();
        sent.retain(|message| {
            let count = counts.entry((message.2, message.3, message.4)).or_default();
            *count += 1;
            !expendable(message) || *count % step == 1 % step
        });
    }
    sent.truncate(KEPT_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatter_goes_where_nothing_happens_and_what_is_rare_stays() {
        let message = |at: usize| {
            let kind = if at.is_multiple_of(1_000) { 0 } else { CHATTER };
            Message(at as Micros * 100, at as Micros * 100 + 1_000, 0, 1, kind, 0, String::new())
        };
        let mut sent: Vec<Message> = (0..100_000).map(message).collect();
        thin_out(&mut sent, &[5_000_000]);
        assert!(sent.len() <= KEPT_MAX, "{}", sent.len());
        assert!(sent.len() > KEPT_MAX / 2, "{}", sent.len());
        assert_eq!(sent.iter().filter(|m| m.4 == 0).count(), 100);
        let near = sent.iter().filter(|m| m.0.abs_diff(5_000_000) <= NEAR).count();
        assert_eq!(near as u64, 2 * NEAR / 100 + 1);
    }

    #[test]
    fn little_is_kept_whole() {
        let mut sent = vec![Message(1, 2, 0, 1, CHATTER, 0, String::new()); 5];
        thin_out(&mut sent, &[]);
        assert_eq!(sent.len(), 5);
    }
}
