//! What a search can reach: one list for each kind of thing, made by the very `match` that names what was seen, so that a
//! new variant does not compile until it is in the list.

use wackamole_protocol::event::{Event, LinkState, Reason, Rejection};
use wackamole_protocol::wire::message::Body;

use crate::fault::Fault;
use crate::fences::GuardianState;
use crate::journal::{KernelChange, What};
use crate::netem::Knob;
use crate::segment::{Daemon, Net, SabotageKind};

/// A function that names a value, and the list of all names that it gives.
macro_rules! points {
    ($(#[$doc:meta])* $list:ident, $name:ident($type:ty) { $($pattern:pat => $text:literal),+ $(,)? }) => {
        /// All names that the function beside it gives.
        pub(super) const $list: &[&str] = &[$($text),+];
        $(#[$doc])*
        pub(super) fn $name(value: &$type) -> &'static str {
            match value { $($pattern => $text),+ }
        }
    };
}

points! {
    /// What is done to the world.
    FAULTS, fault(Fault) {
        Fault::PowerLoss(_) => "power loss",
        Fault::Kill(_) => "kill -9",
        Fault::Restart(_) => "start",
        Fault::Stop(_) => "stop (SIGTERM)",
        Fault::Pause(_) => "pause (SIGSTOP)",
        Fault::Resume(_) => "resume (SIGCONT)",
        Fault::KillGuardian(_) => "kill -9 of the guardian",
        Fault::PauseGuardian(_) => "pause of the guardian",
        Fault::ResumeGuardian(_) => "resume of the guardian",
        Fault::PauseMachine(_) => "machine stopped by its host",
        Fault::ResumeMachine(_) => "machine goes on",
        Fault::DiskLost(_) => "disk lost",
        Fault::ForcePrimary(_) => "force-primary",
        Fault::PortDead(..) => "port silently dead",
        Fault::CarrierLost(..) => "carrier lost",
        Fault::PortBack(..) => "port back",
        Fault::Partition(Net::Segment, _) => "partition of the segment",
        Fault::Partition(..) => "partition",
        Fault::Cut { net: Net::Segment, .. } => "one-way cut of the segment",
        Fault::Cut { .. } => "one-way cut",
        Fault::HealAll(_) => "heal",
        Fault::Heal(..) => "heal of some links",
        Fault::Impair { knob: Knob::Loss, .. } => "loss changes",
        Fault::Impair { knob: Knob::Duplicate, .. } => "duplication changes",
        Fault::Impair { knob: Knob::Reorder, .. } => "reordering changes",
        Fault::Impair { knob: Knob::Corrupt, .. } => "corruption changes",
        Fault::Latency(_) => "latency changes",
        Fault::Drift { .. } => "clock drift changes",
        Fault::AddressError { kind: SabotageKind::Fail, .. } => "address work fails",
        Fault::AddressError { kind: SabotageKind::Hang, .. } => "address work hangs",
        Fault::FlushAddress { .. } => "address deleted by hand",
    }
}

points! {
    /// What a daemon says.
    EVENTS, event(Event) {
        Event::Link { .. } => "link changes",
        Event::PeerRestarted { .. } => "peer restarted",
        Event::PeerLeft { .. } => "peer left",
        Event::Proposed { .. } => "proposes",
        Event::Accepted { .. } => "accepts",
        Event::Refused { .. } => "proposal refused",
        Event::ViewInstalled { primary: true, .. } => "primary view installed",
        Event::ViewInstalled { primary: false, .. } => "other view installed",
        Event::ForcedPrimary => "forced primary",
        Event::ViewLost { .. } => "view lost",
        Event::Beside { beside: true } => "another view beside ours",
        Event::Beside { beside: false } => "no other view beside ours any more",
        Event::Matured { .. } => "member matured",
        Event::Assigned { owner: Some(_), .. } => "VIP assigned",
        Event::Assigned { owner: None, .. } => "VIP assigned to nobody",
        Event::Acquired { .. } => "VIP acquired",
        Event::Released { next: Some(_), .. } => "VIP released to its next owner",
        Event::Released { next: None, .. } => "VIP released",
        Event::AddressFailed { given_up: false, .. } => "address work failed, is tried again",
        Event::AddressFailed { given_up: true, .. } => "address work failed, VIP given up",
        Event::AddressVanished { .. } => "address vanished, is put back",
        Event::Occupied { .. } => "somebody answers for what is to be acquired",
        Event::Contested { yields: false, .. } => "somebody else uses what is held, stays",
        Event::Contested { yields: true, .. } => "somebody else uses what is held, yields",
        Event::Servable { why_not: Some(_), .. } => "VIPs cannot be served here",
        Event::Servable { why_not: None, .. } => "VIPs can be served here again",
        Event::Reach { .. } => "witness reached or lost",
        Event::Rejected { .. } => "datagram refused",
        Event::RanLate { .. } => "own loop ran late",
        Event::ConfigurationDiffers { .. } => "configuration differs",
        Event::BalanceRound { .. } => "balance round",
        Event::Left => "left",
    }
}

points! {
    /// Why a VIP has its owner.
    REASONS, reason(Reason) {
        Reason::Kept => "kept",
        Reason::Uncovered => "uncovered",
        Reason::Preferred => "preferred",
        Reason::Conflict => "conflict",
        Reason::Balance => "balance",
        Reason::Drain => "drain",
        Reason::Unable => "unable",
        Reason::NoView => "no view",
    }
}

points! {
    /// Why a datagram was refused.
    REJECTIONS, rejection(Rejection) {
        Rejection::Malformed => "malformed",
        Rejection::Version => "version",
        Rejection::OtherCluster => "other cluster",
        Rejection::WrongKey => "wrong key",
        Rejection::Replayed => "replayed",
        Rejection::UnknownNode => "unknown node",
        Rejection::OwnName => "own name",
        Rejection::NotForUs => "not for us",
    }
}

points! {
    /// The link to a peer.
    LINKS, link(LinkState) {
        LinkState::Silent => "silent",
        LinkState::OneWay => "one-way",
        LinkState::TwoWay => "two-way",
    }
}

points! {
    /// What a datagram says.
    MESSAGES, message(Body) {
        Body::Heartbeat(_) => "heartbeat",
        Body::Echo(_) => "echo",
        Body::Leave(_) => "leave",
        Body::Fragment(_) => "fragment",
        Body::FragmentAck(_) => "fragment acknowledgement",
    }
}

points! {
    /// How a kernel's address table changed.
    KERNEL, kernel(KernelChange) {
        KernelChange::Acquired => "added by the daemon",
        KernelChange::Released => "removed by the daemon",
        KernelChange::CleanedUp => "removed by a starting daemon",
        KernelChange::Deleted => "deleted by hand",
        KernelChange::Guarded => "removed by the guardian",
        KernelChange::Expired => "gone at the end of its lifetime",
        KernelChange::PowerLost => "gone with the power",
    }
}

points! {
    /// What a machine's daemon is doing.
    DAEMONS, daemon(Daemon) {
        Daemon::Off => "off",
        Daemon::Running(_) => "running",
        Daemon::Paused(_) => "paused",
        Daemon::Frozen(_) => "frozen",
        Daemon::Killed => "killed",
        Daemon::Ended => "ended",
    }
}

points! {
    /// What a machine's guardian is doing.
    GUARDIANS, guardian(GuardianState) {
        GuardianState::Absent => "absent",
        GuardianState::Watching => "watching",
        GuardianState::Acting(_) => "acting",
        GuardianState::Paused => "paused",
        GuardianState::Dead(_) => "dead",
        GuardianState::Lost => "lost",
    }
}

/// Whether a machine answers, as far as its gate is concerned.
pub(super) const GATES: &[&str] = &["open", "shut"];

points! {
    /// Where a daemon is in its life, as its events tell.
    PHASES, phase(Phase) {
        Phase::Joining => "joining",
        Phase::Agreeing => "agreeing",
        Phase::Serving => "serving",
        Phase::Waiting => "waiting (not primary)",
        Phase::Leaving => "leaving",
        Phase::Ended => "ended",
    }
}

/// Where a daemon is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// In no view.
    Joining,
    /// Has accepted a proposal.
    Agreeing,
    /// In a view that may hold VIPs.
    Serving,
    /// In a view that may not.
    Waiting,
    /// Told to leave.
    Leaving,
    /// Left.
    Ended,
}

/// What the fences, the segment's probes and the rest of the machine did; nothing for what has a list of its own.
pub(super) fn deed(what: &What) -> Option<&'static str> {
    match what {
        What::Unguarded { .. } => Some(DEEDS[0]),
        What::Guarded { killed: true, .. } => Some(DEEDS[1]),
        What::Guarded { killed: false, .. } => Some(DEEDS[2]),
        What::FenceCommand { worked: true, .. } => Some(DEEDS[3]),
        What::FenceCommand { worked: false, .. } => Some(DEEDS[4]),
        What::Servable { why: Some(_), .. } => Some(DEEDS[5]),
        What::Servable { why: None, .. } => Some(DEEDS[6]),
        What::Probed { .. } => Some(DEEDS[7]),
        What::Announced { .. } => Some(DEEDS[8]),
        What::OverlapBegan { excuse: Some(_), .. } => Some(DEEDS[9]),
        What::Dark { .. } => Some(DEEDS[10]),
        What::Fault { .. }
        | What::Started { .. }
        | What::Ended { .. }
        | What::Daemon { .. }
        | What::NetworkFault { .. }
        | What::Kernel { .. }
        | What::Lit { .. }
        | What::OverlapBegan { excuse: None, .. }
        | What::OverlapEnded { .. }
        | What::Violation { .. }
        | What::Datagram { .. } => None,
    }
}

/// All names that [`deed`] gives.
pub(super) const DEEDS: &[&str] = &[
    "a guardian cannot be replaced",
    "a guardian kills its daemon",
    "a guardian finds its daemon dead",
    "a fence command works",
    "a fence command fails",
    "a machine shows no sign of life on the segment",
    "a machine shows signs of life again",
    "a VIP is asked for on the segment",
    "a VIP is announced",
    "two answer for a VIP for an allowed while",
    "a client gets no answer",
];

/// What comes of asking the segment for a VIP.
pub(super) const INQUIRIES: &[&str] = &[
    "nobody answers, it is acquired",
    "somebody answers, it stays there",
    "somebody has answered, it is acquired later",
];

/// Why a proposal is refused (`Refusal::phrase` in the protocol's `group/message.rs`).
pub(super) const REFUSALS: &[&str] = &[
    "a ballot at least as high was accepted before",
    "it names an earlier start of the refuser",
    "the refuser does not hear one of the members",
    "the refuser knows a better set",
    "the refuser may not vote for it",
    "the refuser still owes a dropped member its promise",
];

/// Why a view is lost (`lose_view` in the protocol's `group`).
pub(super) const LOSSES: &[&str] = &[
    "its lease has run out",
    "this machine was stopped for too long",
    "an operator has forced another primary view",
    "an operator has forced this node to be the primary view",
    "a member is in a newer view without this node",
    "a better view is in reach that cannot take this node in",
    "the other members have let go of this view for a better one",
    "the members that are heard promise this node nothing any more",
    "a node in another view is heard that does not hear this one",
];

/// Why a view is not primary, by how the status says it (`WhyNot` in the protocol's `vote/rules.rs`).
pub(super) const WHY_NOT: &[(&str, &str)] = &[
    ("none of must_reach answers", "the witness does not answer"),
    ("members are fewer than min_quorum", "fewer than min_quorum"),
    ("not more than half of all configured nodes", "a minority of all nodes"),
    ("no primary view is known", "no primary view is known"),
    ("not enough of the last primary view", "others may have decided"),
];
