//! A start of a daemon accepts no ballot that is not higher than all that it has accepted (docs/protocol.md, "Agreement").

use wackamole_protocol::id::ViewId;

use super::Breach;

#[derive(Debug, Default)]
pub(super) struct Ballots {
    highest: Option<ViewId>,
}

impl Ballots {
    pub(super) fn accepted(&mut self, ballot: ViewId) -> Option<Breach> {
        let earlier = self.highest.replace(ballot)?;
        (ballot <= earlier).then_some(Breach::BallotNotHigher { ballot, earlier })
    }
}
