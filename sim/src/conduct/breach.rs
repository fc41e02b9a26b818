//! Rules that were broken.

use wackamole_protocol::id::{NodeId, ViewId};
use wackamole_protocol::names::Names;
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;

/// What a daemon did that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It accepted a ballot that was not higher than what it had accepted.
    BallotNotHigher {
        /// The ballot.
        ballot: ViewId,
        /// What it had accepted.
        earlier: ViewId,
    },
    /// It took datagrams that it had taken before, or of starts of peers that are over.
    Repeated {
        /// How many came again, or too late.
        again: usize,
        /// How many of them it can have refused.
        refused: usize,
    },
    /// It promised something to somebody without whom it has agreed.
    PromisedAStranger {
        /// Whom.
        peer: NodeId,
    },
    /// It agreed to a view without somebody to whom it had promised not to.
    PromiseBroken {
        /// To whom.
        peer: NodeId,
        /// How long the promise had yet to run.
        left: Duration,
    },
    /// It installed a view that was not what it had accepted last, or once more.
    InstalledUnasked {
        /// The view.
        view: ViewId,
    },
    /// It installed a view that one of its members has not accepted.
    InstalledWithout {
        /// The view.
        view: ViewId,
        /// The member.
        member: NodeId,
    },
    /// It acquired something between the accept of a view and its install.
    AcquiredWhileFrozen {
        /// What.
        vip: VipId,
        /// The view.
        ballot: ViewId,
    },
    /// It acquired something for which another member of its view may answer.
    AcquiredBesideAnother {
        /// What.
        vip: VipId,
        /// The member.
        other: NodeId,
    },
    /// It took something over from a node that vanished and has not been fenced.
    TakenFromTheUnfenced {
        /// What.
        vip: VipId,
        /// From whom.
        former: NodeId,
    },
    /// It asked for an announcement while the one before had not been sent.
    AnnouncedTwiceAtOnce {
        /// Of what.
        vip: VipId,
    },
    /// It acquired something under no lease.
    AcquiredUnderNoLease {
        /// What.
        vip: VipId,
    },
    /// It accepted a primary view that was formed, and its disk knows nothing of it.
    PrimaryForgotten {
        /// Who did.
        node: NodeId,
        /// The view.
        view: ViewId,
    },
}

impl Breach {
    /// A sentence for people about the daemon `me`.
    pub fn text(&self, me: NodeId, names: &Names) -> String {
        let name = names.node(me);
        match *self {
            Self::BallotNotHigher { ballot, earlier } => format!(
                "{name} accepts {}, although it has accepted {}",
                names.view(ballot),
                names.view(earlier)
            ),
            Self::Repeated { again, refused } => {
                format!(
                    "{name} refuses {refused} of {again} datagrams that have come before, or from earlier starts"
                )
            }
            Self::PromisedAStranger { peer } => format!(
                "{name} promises something to {}, without which it has agreed",
                names.node(peer)
            ),
            Self::PromiseBroken { peer, left } => format!(
                "{name} agrees to a view without {}, which it has promised not to do for another {} ms",
                names.node(peer),
                left.as_millis()
            ),
            Self::InstalledUnasked { view } => format!(
                "{name} installs {}, which is not what it has accepted last and not installed",
                names.view(view)
            ),
            Self::InstalledWithout { view, member } => format!(
                "{name} installs {}, which {} has not accepted",
                names.view(view),
                names.node(member)
            ),
            Self::AcquiredWhileFrozen { vip, ballot } => format!(
                "{name} acquires {}, although it has accepted {} and not installed it",
                names.vip(vip),
                names.view(ballot)
            ),
            Self::AcquiredBesideAnother { vip, other } => format!(
                "{name} acquires {}, for which {} of its own view may answer",
                names.vip(vip),
                names.node(other)
            ),
            Self::TakenFromTheUnfenced { vip, former } => format!(
                "{name} takes {} over from {}, which vanished and has not been fenced",
                names.vip(vip),
                names.node(former)
            ),
            Self::AnnouncedTwiceAtOnce { vip } => format!(
                "{name} asks for another announcement of {}, and the one before has not been sent",
                names.vip(vip)
            ),
            Self::AcquiredUnderNoLease { vip } => {
                format!("{name} acquires {} under no lease", names.vip(vip))
            }
            Self::PrimaryForgotten { node, view } => format!(
                "{} has accepted {}, which is a primary view, and there is nothing of it on its disk",
                names.node(node),
                names.view(view)
            ),
        }
    }
}
