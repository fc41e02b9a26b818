//! What must hold in every state, and what must be possible. Told from the disks and from the views that were formed, not
//! from what the voting code computes.

use stateright::Property;
use wackamole_protocol::config::QuorumKind;
use wackamole_protocol::id::NodeId;
use wackamole_protocol::vote::Formed;

use crate::breakage::Breakage;
use crate::model::Votes;
use crate::state::State;

/// Of all primary views of a lineage that were ever formed, only the one with the highest ballot can still have a deciding
/// deciding set of members that accepted nothing since. A lease takes the echoes of such a set. Where disks are lost a ballot
/// may be lower than one that nobody remembers: there it is no more than one view, whichever.
pub(crate) fn exclusive(model: &Votes, state: &State) -> bool {
    if state.nodes.iter().any(|node| node.lost.is_some()) {
        let holds = |(lineage, view): &&(u64, Formed)| can_hold(model, state, *lineage, view);
        let holding: Vec<u64> = state.formed.iter().filter(holds).map(|(l, _)| *l).collect();
        return holding.windows(2).all(|pair| pair[0] != pair[1]);
    }
    state.formed.iter().all(|(lineage, view)| {
        let later = |(l, v): &(u64, Formed)| l == lineage && v.ballot > view.ballot;
        let rival = |(l, v): &(u64, Formed)| l == lineage && v.ballot == view.ballot && v != view;
        !state.formed.iter().any(rival)
            && (!state.formed.iter().any(later) || !can_hold(model, state, *lineage, view))
    })
}

fn can_hold(model: &Votes, state: &State, lineage: u64, view: &Formed) -> bool {
    let stays = |&voter: &NodeId| {
        holder(state, lineage, view, voter).is_some_and(|holder| {
            let disk = &state.at(holder).disk;
            disk.lineage == lineage && disk.accepted == view.ballot
        })
    };
    let staying = view.voters.iter().filter(|voter| stays(voter)).count();
    if model.rules.kind == QuorumKind::Static {
        let half = model.broken == Some(Breakage::StaticHalf); // The lease goes by the same rule.
        return 2 * staying + usize::from(half) > model.rules.nodes.len();
    }
    2 * staying > view.voters.len() || 2 * staying == view.voters.len() && stays(&view.voters[0])
}

/// Who can uphold a view with a vote, in truth: the leavers' own disks say so. A leaver that knew of something later upholds
/// nothing, nor does its heir.
fn holder(state: &State, lineage: u64, view: &Formed, voter: NodeId) -> Option<NodeId> {
    let mut at = voter;
    for _ in 0..=state.nodes.len() {
        let disk = &state.at(at).disk;
        match disk.proxies.get(&at) {
            Some(proxy) if disk.lineage == lineage && proxy.up_to > view.ballot => return None,
            Some(proxy) if disk.lineage == lineage && proxy.up_to == view.ballot => at = proxy.to,
            _ => return Some(at),
        }
    }
    None
}

/// Nobody believes in a primary view that was not formed; and whoever has a vote and was asked for one that was formed
/// knows it, as formed or as possibly so.
pub(crate) fn remembered(model: &Votes, state: &State) -> bool {
    if model.rules.kind == QuorumKind::Static {
        return true;
    }
    let nodes = || model.rules.nodes.iter().map(|&node| (node, state.at(node)));
    let true_to_fact = nodes().all(|(_, machine)| {
        [&machine.disk, &machine.memory].into_iter().all(|record| {
            let primary = record.primary.clone().map(|primary| (record.lineage, primary));
            primary.is_none_or(|primary| state.formed.contains(&primary))
        })
    });
    let known = nodes().all(|(node, machine)| {
        [&machine.disk, &machine.memory].into_iter().filter(|record| record.voice).all(|record| {
            state
                .formed
                .iter()
                .filter(|(lineage, view)| {
                    let lost = machine.lost.as_ref();
                    !lost.is_some_and(|lost| lost.contains(&(*lineage, view.clone())))
                        && *lineage == record.lineage
                        && view.voters.contains(&node)
                        && record.primary.as_ref().is_none_or(|p| p.ballot < view.ballot)
                })
                .all(|(_, view)| record.attempts.contains(view))
        })
    });
    true_to_fact && known
}

/// Without these the promises would be kept by a cluster that does nothing.
pub(crate) fn reachable(model: &Votes) -> Vec<Property<Votes>> {
    let (budget, dynamic) = (model.budget, model.rules.kind == QuorumKind::Dynamic);
    let mut properties = vec![Property::sometimes("a view succeeds a view", |_, state: &State| {
        state.formed.iter().filter(|(_, view)| view.voters.len() > 1).count() > 1
    })];
    if dynamic {
        properties.push(Property::sometimes(
            "an attempt is known to have failed",
            |_, state: &State| {
                state.nodes.iter().any(|n| {
                    let primary = n.memory.primary.as_ref();
                    n.memory.voice
                        && n.memory.attempts.is_empty()
                        && primary.is_none_or(|p| p.ballot < n.memory.accepted)
                })
            },
        ));
    }
    if dynamic && budget.leaves > 0 {
        properties.push(Property::sometimes("a node goes on alone", |_, state: &State| {
            state.formed.iter().any(|(_, view)| view.voters.len() == 1)
        }));
    }
    if dynamic && budget.lost_disks > 0 {
        properties.push(Property::sometimes("a lost disk votes again", |_, state: &State| {
            state.left.lost_disks == 0 && state.nodes.iter().all(|n| n.disk.voice)
        }));
    }
    if budget.forced > 0 {
        properties.push(Property::sometimes("others join a forced view", |_, state: &State| {
            state.formed.iter().any(|(lineage, view)| *lineage > 0 && view.voters.len() > 1)
        }));
    }
    properties
}
