//! The snapshot of what a node knows.

use std::collections::BTreeSet;

use crate::config::Partition;
use crate::event::LinkState;
use crate::id::NodeId;
use crate::status::{
    NodeStatus, PathStatus, Phase, ReachStatus, SafetyStatus, Status, ViewStatus, VipStatus,
};
use crate::time::{Duration, Instant};
use crate::vote::WhyNot;

use super::{Departure, Node};
use crate::agent::Local;

/// For so long a status tells that somebody else used a VIP that we hold.
const CONTEST_SHOWN: Duration = Duration::from_secs(60);

impl Node {
    /// What this node knows of the cluster.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            cluster: self.config.cluster.clone(),
            node: self.names.node(self.config.me),
            incarnation: self.incarnation.to_string(),
            phase: self.phase(),
            view: self.view_status(now),
            safety: self.safety_status(now),
            nodes: self.config.nodes.iter().map(|node| self.node_status(node.id(), now)).collect(),
            vips: self.vip_statuses(now),
            rejected: self.group.rejected().clone(),
            warnings: self.warnings(now),
        }
    }

    fn phase(&self) -> Phase {
        if self.departure != Departure::No || self.agent.is_draining() {
            Phase::Leaving
        } else if self.group.is_agreeing() {
            Phase::Agreeing
        } else if self.group.view().is_some() {
            Phase::Serving
        } else {
            Phase::Joining
        }
    }

    fn view_status(&self, now: Instant) -> Option<ViewStatus> {
        self.group.view().map(|view| ViewStatus {
            epoch: view.id.epoch,
            coordinator: self.names.node(view.id.coordinator),
            members: self
                .config
                .nodes
                .iter()
                .filter(|node| view.members.contains_key(&node.id()))
                .map(|node| node.name.clone())
                .collect(),
            age_ms: millis(now.since(view.at)),
            assignment: self.agent.assignment_number(),
        })
    }

    fn safety_status(&self, now: Instant) -> SafetyStatus {
        let view = self.group.view();
        let primary = view.is_some_and(|view| view.primary);
        let why_not = if primary { None } else { self.group.why_not_primary(now) };
        let partition = match self.config.safety.partition {
            Partition::Component => "component",
            Partition::Lan => "lan",
            Partition::Quorum => "quorum",
        };
        let awaited = why_not.as_ref().map(|why_not| why_not.awaited()).unwrap_or_default();
        SafetyStatus {
            partition: partition.to_owned(),
            primary,
            why_not: why_not.map(|why_not| self.in_words(&why_not)),
            awaited: awaited.into_iter().map(|node| self.names.node(node)).collect(),
            lineage: self.group.lineage(),
            lease_ms: self.lease().map(|until| millis(until.since(now))),
            must_reach: self
                .config
                .must_reach
                .iter()
                .map(|address| ReachStatus {
                    address: address.to_string(),
                    answers: self.group.answering().contains(address),
                })
                .collect(),
        }
    }

    fn in_words(&self, why_not: &WhyNot) -> String {
        let asked: Vec<_> = self.config.must_reach.iter().map(ToString::to_string).collect();
        match why_not {
            WhyNot::Witness { .. } => format!("{why_not}: {}", asked.join(", ")),
            _ => why_not.to_string(),
        }
    }

    fn node_status(&self, id: NodeId, now: Instant) -> NodeStatus {
        let me = id == self.config.me;
        let peer = self.group.peer(id);
        let ago = |at: Option<Instant>| at.map(|at| millis(now.since(at)));
        let definition = self.config.nodes.iter().find(|node| node.id() == id);
        let member = self.agent.members().iter().find(|member| member.id == id);
        let slots = self.agent.slots();
        let addresses = definition.map(|d| d.addresses.clone()).unwrap_or_default();
        NodeStatus {
            name: self.names.node(id),
            me,
            link: peer.map_or(LinkState::TwoWay, |peer| peer.link_state),
            heard_ms_ago: if me { Some(0) } else { ago(peer.and_then(|peer| peer.heard_at)) },
            member: self.group.view().is_some_and(|view| view.members.contains_key(&id)),
            mature: if me { self.agent.is_mature() } else { member.is_some_and(|m| m.mature) },
            draining: if me {
                self.agent.is_draining()
            } else {
                member.is_some_and(|m| m.draining)
            },
            weight: member.map_or(definition.map_or(1, |d| d.weight), |m| m.weight),
            owns: slots.values().filter(|slot| slot.owner == Some(id)).count(),
            holds: slots
                .values()
                .filter(|slot| {
                    if me { slot.local == Local::Held } else { slot.other_holders.contains(&id) }
                })
                .count(),
            same_configuration: member.is_none_or(|m| m.fingerprint == self.agent.fingerprint()),
            paths: addresses
                .iter()
                .enumerate()
                .map(|(path, address)| PathStatus {
                    address: address.to_string(),
                    heard_ms_ago: ago(
                        peer.and_then(|peer| peer.paths_heard.get(path).copied().flatten())
                    ),
                })
                .collect(),
        }
    }

    fn vip_statuses(&self, now: Instant) -> Vec<VipStatus> {
        let slots = self.agent.slots();
        self.config
            .vips
            .iter()
            .filter_map(|definition| slots.get(&definition.vip.id()))
            .map(|slot| {
                let mut holders: BTreeSet<NodeId> = slot.other_holders.clone();
                if slot.local == Local::Held {
                    holders.insert(self.config.me);
                }
                VipStatus {
                    name: slot.vip.name().to_owned(),
                    addresses: slot
                        .vip
                        .addresses()
                        .iter()
                        .map(|a| format!("{}/{}@{}", a.address, a.prefix, a.interface))
                        .collect(),
                    owner: slot.owner.map(|owner| self.names.node(owner)),
                    holders: holders.into_iter().map(|holder| self.names.node(holder)).collect(),
                    reason: slot.owner.map(|_| slot.reason),
                    owned_for_ms: slot.owner.map(|_| millis(now.since(slot.owned_since))),
                    waiting: slot.unservable.clone().or_else(|| {
                        slot.occupied_by.map(|by| format!("{by} answers for it: it stays there"))
                    }),
                    error: slot.error.clone(),
                }
            })
            .collect()
    }

    fn warnings(&self, now: Instant) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.config.must_reach.is_empty() && self.group.answering().is_empty() {
            warnings.push(
                "none of must_reach answers: if a member is lost now, this node proposes no primary view".into(),
            );
        }
        for slot in self.agent.slots().values() {
            if let Some((by, at)) = slot.contested_by
                && now < at + CONTEST_SHOWN
            {
                let ago = millis(now.since(at)) / 1000;
                warnings
                    .push(format!("{} is used by {by} as well, seen {ago} s ago", slot.vip.name()));
            }
        }
        for member in self.agent.members() {
            if member.fingerprint != self.agent.fingerprint() {
                warnings.push(format!(
                    "{} defines its VIPs otherwise than this node; a VIP is assigned only among those who define it alike",
                    self.names.node(member.id)
                ));
            }
        }
        for node in &self.config.nodes {
            let Some(peer) = self.group.peer(node.id()) else { continue };
            if peer.link_state == LinkState::OneWay {
                warnings.push(format!("{} is heard but does not hear this node", node.name));
            }
            if let Some(interval) = peer.interval
                && interval != self.config.timing.heartbeat
            {
                warnings.push(format!(
                    "{} sends heartbeats every {interval:?}, this node every {:?}",
                    node.name, self.config.timing.heartbeat
                ));
            }
        }
        let unheld = self
            .agent
            .slots()
            .values()
            .filter(|slot| slot.local != Local::Held && slot.other_holders.is_empty())
            .count();
        if unheld > 0 && self.group.view().is_some() {
            warnings.push(format!("{unheld} VIPs are held by nobody in this view"));
        }
        warnings
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
