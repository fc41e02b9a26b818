//! P5: everybody who can reach the new holder sends to it, soon after it acquired the VIP.
//!
//! After a change of the wires a client may find itself with an entry for somebody who still answers, elsewhere; no daemon
//! can know, and the client's own neighbour timeout ends it.

use wackamole_protocol::time::Duration;

use super::{Check, Findings, Glance};
use crate::engine::TICK;

/// The checker.
pub struct Caches {
    vips: usize,
    clients: usize,
    /// By client and VIP: the entry names somebody else than the only holder since then.
    wrong: Vec<Option<Wrong>>,
    /// By client and VIP: two holders could be reached when last looked.
    overlapped: Vec<bool>,
    look_again: bool,
}

#[derive(Clone, Copy)]
struct Wrong {
    since: Duration,
    holder: usize,
    /// There was another holder just before: the one that is left does not know, but announces when they meet.
    after_overlap: bool,
    told: bool,
}

impl Caches {
    /// A checker for so many clients and VIPs.
    pub fn new(clients: usize, vips: usize) -> Self {
        Self {
            vips,
            clients,
            wrong: vec![None; clients * vips],
            overlapped: vec![false; clients * vips],
            look_again: false,
        }
    }
}

impl Check for Caches {
    fn step(&mut self, glance: &Glance<'_>, findings: &mut Findings) {
        if !glance.changed && !self.look_again {
            return;
        }
        self.look_again = false;
        let (kernels, links) = (&glance.segment.kernels, &glance.segment.lan);
        for client in 0..self.clients {
            let station = links.nodes() + client;
            for vip in 0..self.vips {
                let cell = &mut self.wrong[client * self.vips + vip];
                let mut holders = kernels.holders(vip).filter(|&node| links.two_way(node, station));
                let (first, second) = (holders.next(), holders.next());
                let overlapped = std::mem::replace(
                    &mut self.overlapped[client * self.vips + vip],
                    second.is_some(),
                );
                let (Some(holder), None) = (first, second) else {
                    *cell = None;
                    continue;
                };
                // A dead daemon's kernel answers whoever asks, but announces nothing. Nor does one that its hypervisor had stopped,
                // before it has found out who is there.
                let right = glance.segment.clients.believes(client, vip) == Some(holder);
                let thawed = glance.segment.thawed[holder]
                    .is_some_and(|at| glance.now <= glance.deadline(at, glance.bounds.cover));
                if right || thawed || !glance.attends(holder) {
                    *cell = None;
                    continue;
                }
                self.look_again = true;
                let wrong = match cell {
                    Some(wrong) if wrong.holder == holder => wrong,
                    _ => cell.insert(Wrong {
                        since: glance.now,
                        holder,
                        after_overlap: overlapped,
                        told: false,
                    }),
                };
                // Nor can it know that another one has let go which it does not hear.
                let unheard = glance.segment.one_way[holder].now;
                let by_notice = if wrong.after_overlap && unheard {
                    wrong.since + glance.scenario.neighbour_timeout + glance.bounds.merge
                } else if wrong.after_overlap {
                    glance.deadline(wrong.since, glance.bounds.merge + glance.bounds.notice)
                } else {
                    wrong.since + glance.bounds.notice
                };
                let by_timeout = glance.wires_calm_since
                    + glance.scenario.neighbour_timeout
                    + glance.bounds.merge;
                if glance.now > by_notice && glance.now > by_timeout && !wrong.told {
                    wrong.told = true;
                    let text = format!(
                        "{} does not send to {}, which has been the only holder of {} for {} ms (allowed {} ms)",
                        glance.scenario.clients[client],
                        glance.node(holder),
                        glance.vip(vip),
                        (glance.now - wrong.since).as_millis(),
                        (by_notice - wrong.since).as_millis(),
                    );
                    findings.violation("caches", text);
                }
            }
        }
    }

    fn next_look(&self, glance: &Glance<'_>) -> Option<Duration> {
        self.look_again.then_some(glance.now + TICK)
    }
}
