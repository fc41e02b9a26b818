//! A view is installed once, by those who have accepted it and nothing since, and when all of its members have (docs/protocol.md,
//! "Agreement").

use std::collections::{BTreeMap, BTreeSet};

use wackamole_protocol::id::{NodeId, ViewId};

use super::{Breach, PROPOSALS_MAX};

/// Who has accepted what, of all machines.
#[derive(Debug, Default)]
pub(super) struct Accepts(BTreeMap<ViewId, BTreeSet<NodeId>>);

impl Accepts {
    pub(super) fn accepted(&mut self, node: NodeId, ballot: ViewId) {
        self.0.entry(ballot).or_default().insert(node);
        if self.0.len() > PROPOSALS_MAX {
            self.0.pop_first();
        }
    }

    /// A member that has not accepted a view that is installed.
    fn missing(&self, view: ViewId, members: &BTreeSet<NodeId>) -> Option<NodeId> {
        let accepted = self.0.get(&view)?;
        members.difference(accepted).next().copied()
    }
}

/// What one start of a daemon may install.
#[derive(Debug, Default)]
pub(super) struct Installs {
    accepted: Option<ViewId>,
}

impl Installs {
    pub(super) fn accepted(&mut self, ballot: ViewId) {
        self.accepted = Some(ballot);
    }

    pub(super) fn installed(
        &mut self,
        view: ViewId,
        members: &BTreeSet<NodeId>,
        all: &Accepts,
    ) -> Option<Breach> {
        if self.accepted.take_if(|accepted| *accepted == view).is_none() {
            return Some(Breach::InstalledUnasked { view });
        }
        all.missing(view, members).map(|member| Breach::InstalledWithout { view, member })
    }
}
