//! What has happened so far, as far as expectations are about it.

use wackamole_protocol::event::Event;
use wackamole_protocol::time::Duration;

use super::super::Glance;
use crate::journal::{Entry, KernelChange, What};
use crate::scenario::Scenario;

/// The facts.
pub(super) struct Facts {
    vips: usize,
    /// By client and VIP.
    light: Vec<Light>,
    last_holder: Vec<Option<usize>>,
    /// How many members the installed view of each daemon has; zero without one.
    members: Vec<usize>,
    /// What came or went, in order.
    stirs: Vec<(Duration, String)>,
}

#[derive(Clone, Copy)]
enum Light {
    /// It never answered.
    Never,
    On,
    DarkSince(Duration),
}

impl Facts {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let vips = scenario.vips.len();
        Self {
            vips,
            light: vec![Light::Never; scenario.clients.len() * vips],
            last_holder: vec![None; vips],
            members: vec![0; scenario.nodes.len()],
            stirs: Vec::new(),
        }
    }

    /// Takes note. Returns a VIP that has moved, from whom and to whom.
    pub(super) fn take(
        &mut self,
        entry: &Entry,
        scenario: &Scenario,
    ) -> Option<(usize, usize, usize)> {
        let name = |node: usize| scenario.nodes[node].name.as_str();
        match &entry.what {
            What::Dark { client, vip } => {
                self.light[client * self.vips + vip] = Light::DarkSince(entry.at);
            }
            What::Lit { client, vip, .. } => self.light[client * self.vips + vip] = Light::On,
            What::Daemon { node, event: Event::ViewInstalled { members, .. } } => {
                self.members[*node] = members.len();
                let text = format!("{} installed a view of {}", name(*node), members.len());
                self.stirs.push((entry.at, text));
            }
            What::Daemon { node, event: Event::ViewLost { why } } => {
                self.members[*node] = 0;
                self.stirs.push((entry.at, format!("{} lost its view: {why}", name(*node))));
            }
            What::Started { node } | What::Ended { node } => self.members[*node] = 0,
            What::Kernel { node, vip, change } => {
                let (vip_name, node_name) = (scenario.vips[*vip].vip.name(), name(*node));
                let how = match change {
                    KernelChange::Acquired => "acquired on",
                    KernelChange::Released => "released on",
                    KernelChange::CleanedUp => "cleaned up on",
                    KernelChange::Deleted => "deleted by hand on",
                    KernelChange::Guarded => "removed by the guardian of",
                    KernelChange::Expired => "lost by the end of its lifetime on",
                    KernelChange::PowerLost => "lost with the power of",
                };
                self.stirs.push((entry.at, format!("{vip_name} was {how} {node_name}")));
                if *change == KernelChange::Acquired {
                    let last = self.last_holder[*vip].replace(*node);
                    return last.filter(|last| last != node).map(|last| (*vip, last, *node));
                }
            }
            _ => {}
        }
        None
    }

    /// Clients and VIPs in the dark for longer than that, and since when.
    pub(super) fn dark_for_longer_than(
        &self,
        patience: Duration,
        glance: &Glance<'_>,
    ) -> Vec<(usize, usize, Option<Duration>)> {
        let cells = self.light.iter().enumerate();
        let dark = cells.filter_map(|(cell, light)| {
            let since = match *light {
                Light::On => return None,
                Light::Never => None,
                Light::DarkSince(since) if glance.now - since > patience => Some(since),
                Light::DarkSince(_) => return None,
            };
            Some((cell / self.vips, cell % self.vips, since))
        });
        dark.collect()
    }

    /// Since when somebody is in the dark who is so for longest.
    pub(super) fn dark_longest(&self) -> Option<Duration> {
        let since = self.light.iter().filter_map(|light| match light {
            Light::DarkSince(since) => Some(*since),
            Light::Never | Light::On => None,
        });
        since.min()
    }

    /// Clients and VIPs in the dark though they were not always, and since when.
    pub(super) fn still_dark(&self) -> Vec<(usize, usize, Duration)> {
        let cells = self.light.iter().enumerate();
        let dark = cells.filter_map(|(cell, light)| match light {
            Light::DarkSince(since) => Some((cell / self.vips, cell % self.vips, *since)),
            Light::Never | Light::On => None,
        });
        dark.collect()
    }

    pub(super) fn members(&self, node: usize) -> usize {
        self.members[node]
    }

    /// The last time that something came or went after `from` and until `to`.
    pub(super) fn stir_between(&self, from: Duration, to: Duration) -> Option<(Duration, &str)> {
        let mut before = self.stirs.iter().rev().skip_while(|(at, _)| *at > to);
        before.next().filter(|(at, _)| *at > from).map(|(at, what)| (*at, what.as_str()))
    }
}
