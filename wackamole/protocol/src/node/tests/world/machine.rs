//! A machine of that world: what it does with what its daemon wants, and what its daemon is told.

use std::collections::BTreeSet;

use super::{Bait, Happening, Strike, World, ms};
use crate::node::{AddressOutcome, Destination, Node, Output};
use crate::time::Duration;
use crate::vip::VipId;

impl World {
    pub(super) fn wake(&mut self, i: usize) {
        self.machines[i].stopped_until = None;
        let now = self.clock(i);
        if self.machines[i].node.is_some() {
            self.node(i).handle_timeout(now);
            self.drain(i);
        }
        for ticket in core::mem::take(&mut self.machines[i].saved) {
            if self.machines[i].node.is_some() {
                let now = self.clock(i);
                self.node(i).handle_saved(ticket, now);
                self.drain(i);
            }
        }
        for outcome in core::mem::take(&mut self.machines[i].answers) {
            self.answer(i, outcome);
        }
        for (from, datagram) in core::mem::take(&mut self.machines[i].inbox) {
            self.happen(Happening::Arrive { to: i, from, datagram });
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { to, from, datagram } => {
                let now = self.clock(to);
                let address = self.config.nodes[from].addresses[0];
                let machine = &mut self.machines[to];
                if machine.stopped_until.is_some() {
                    machine.inbox.push((from, datagram));
                } else if let Some(node) = &mut machine.node {
                    node.handle_datagram(address, &datagram, now);
                    self.drain(to);
                }
            }
            Happening::Probed { node, life } => {
                if self.machines[node].life == life {
                    self.probed(node);
                }
            }
            Happening::Saved { node, life, ticket, record } => {
                // What was under way when the machine stopped is lost, or the disk has it and nobody was told.
                let lives = self.machines[node].life == life;
                if lives || self.dice.below(2) == 0 && self.machines[node].life == life + 1 {
                    self.machines[node].disk = Some(record);
                }
                let now = self.clock(node);
                if lives && self.machines[node].stopped_until.is_some() {
                    self.machines[node].saved.push(ticket);
                } else if lives && let Some(daemon) = &mut self.machines[node].node {
                    daemon.handle_saved(ticket, now);
                    self.drain(node);
                }
            }
            Happening::Kernel { node, life, vip, acquire, generation } => {
                let machine = &mut self.machines[node];
                let stale = machine.changed_in.get(&vip).is_some_and(|&g| g > generation);
                // A new try that is no longer wanted; a first try is followed by the release.
                if machine.life != life || acquire && stale {
                    return;
                }
                let fails = acquire && self.dice.below(100) < self.fail_percent;
                let outcome = if fails {
                    machine.kernel.remove(&vip);
                    let error = "out of luck".to_owned();
                    AddressOutcome::Failed { vip, generation, error, given_up: true }
                } else if acquire {
                    machine.kernel.insert(vip);
                    if machine.desired.contains(&vip) {
                        machine.shut.remove(&vip);
                    }
                    AddressOutcome::Held { vip, generation }
                } else {
                    machine.kernel.remove(&vip);
                    AddressOutcome::Released { vip, generation }
                };
                if fails {
                    let pause = self.delay((10_000, 200_000));
                    self.try_again(node, vip, pause);
                }
                self.answer(node, outcome);
            }
        }
    }

    pub(super) fn drain(&mut self, i: usize) {
        while let Some(output) = self.machines[i].node.as_mut().and_then(Node::poll_output) {
            match output {
                Output::Transmit { to: Destination::Peer(to), datagram } => {
                    let to = self
                        .config
                        .nodes
                        .iter()
                        .position(|node| node.addresses.contains(&to))
                        .expect("a configured address");
                    self.transmit(i, to, datagram);
                }
                Output::Transmit { to: Destination::Group, datagram } => {
                    for to in (0..self.size()).filter(|&to| to != i) {
                        self.transmit(i, to, datagram.clone());
                    }
                }
                Output::Hold { generation, vips } => self.hold(i, generation, vips),
                Output::Clear { wanted, .. } => {
                    self.machines[i].to_clear = wanted.into_keys().collect();
                    self.probe(i, ms(1));
                }
                Output::Save { ticket, record } => {
                    let delay = self.delay((100, 5_000));
                    let life = self.machines[i].life;
                    let saved = Happening::Saved { node: i, life, ticket, record };
                    self.later(self.now + delay, saved);
                }
                Output::Announce { .. } => {}
                Output::Event(event) => {
                    let (hit, rest) = core::mem::take(&mut self.traps)
                        .into_iter()
                        .partition(|(bait, _)| bait.is_taken_by(&event));
                    self.traps = rest;
                    let hit: Vec<(Bait, Strike)> = hit;
                    self.sprung.extend(hit.into_iter().map(|(_, strike)| strike));
                    self.log.push((self.now, i, event));
                }
                Output::Left { .. } => self.stop_daemon(i),
            }
        }
        self.renew_gate(i);
    }

    /// As the driver does: what is still there without a lease has that of before.
    pub(super) fn renew_gate(&mut self, i: usize) {
        let machine = &mut self.machines[i];
        let lease = machine.node.as_ref().and_then(Node::lease);
        if lease.is_some() || machine.kernel.is_empty() && machine.desired.is_empty() {
            machine.gate = lease;
        }
    }

    pub(super) fn probe(&mut self, i: usize, within: Duration) {
        if !self.machines[i].to_clear.is_empty() {
            let life = self.machines[i].life;
            self.later(self.now + within, Happening::Probed { node: i, life });
        }
    }

    /// What nobody within reach answers for is clear; the rest is asked about again.
    pub(super) fn probed(&mut self, i: usize) {
        for vip in self.machines[i].to_clear.clone() {
            let answered = self.holders(vip).into_iter().any(|j| j != i && self.linked(i, j));
            if !answered && self.machines[i].to_clear.remove(&vip) {
                self.answer(i, AddressOutcome::Cleared { vip });
            }
        }
        self.probe(i, self.config.timing.heartbeat);
    }

    /// One operation for each change, one after the other for each VIP, as the reconciler does it.
    pub(super) fn hold(&mut self, i: usize, generation: u64, vips: BTreeSet<VipId>) {
        let before = core::mem::replace(&mut self.machines[i].desired, vips.clone());
        for &vip in before.symmetric_difference(&vips) {
            let delay = self.delay(self.operation_us);
            let free = self.machines[i].busy_until.get(&vip).copied().unwrap_or(self.now);
            let at = free.max(self.now) + delay;
            self.machines[i].busy_until.insert(vip, at);
            self.machines[i].changed_in.insert(vip, generation);
            self.machines[i].shut.insert(vip);
            let (life, acquire) = (self.machines[i].life, vips.contains(&vip));
            self.later(at, Happening::Kernel { node: i, life, vip, acquire, generation });
        }
    }
}
