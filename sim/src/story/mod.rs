//! A run as plain data: lanes, segments, marks, events, messages, and an account of it in words. [`crate::page`] draws a story
//! and knows nothing of the simulator; whatever can fill one in (a simulated run here, see [`build::story`], or events that
//! were recorded elsewhere) gets the same page.
//!
//! Times are microseconds since the beginning of the story. Nodes, VIPs and clients are named by their position in the lists
//! of the story. Serialised as JSON it is what the page carries with it.

pub mod build;
mod events;
mod holdings;
mod lanes;
mod messages;

use serde::{Deserialize, Serialize};

/// Microseconds since the beginning of a story.
pub type Micros = u64;

/// Everything that a page tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// One line.
    pub title: String,
    /// What it is about, at more length; may be empty.
    #[serde(default)]
    pub about: String,
    /// Where it comes from and under which settings, each with a name.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// What came of it in a few words, if that is not whether promises were kept.
    #[serde(default)]
    pub verdict: Option<String>,
    /// The command that shows the run again, if there is one.
    #[serde(default)]
    pub reproduce: Option<String>,
    /// How long it lasts.
    pub end: Micros,
    /// By how much clocks may go wrong, in parts per million.
    #[serde(default)]
    pub drift_allowed_ppm: u32,
    /// What came of it, in words.
    pub account: Account,
    /// The machines in rank order.
    pub nodes: Vec<NodeLane>,
    /// The VIPs in configuration order.
    pub vips: Vec<VipLane>,
    /// The names of the clients; there may be none.
    #[serde(default)]
    pub clients: Vec<String>,
    /// Faults and broken promises, by time.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// Everything worth a line, by time.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Datagrams, if they were recorded, by the time at which they were sent.
    #[serde(default)]
    pub messages: Messages,
}

/// Something to know about a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about, such as `seed`.
    pub name: String,
    /// What it is.
    pub value: String,
}

/// A run in plain language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// How many promises were broken; none in a good run.
    pub broken: usize,
    /// The one sentence that somebody in a hurry should read.
    pub headline: String,
    /// When that was, if it was at one moment.
    #[serde(default)]
    pub at: Option<Micros>,
    /// What it comes down to, below the headline.
    #[serde(default)]
    pub chapters: Vec<Chapter>,
    /// How the machines stood at that moment; empty without one.
    #[serde(default)]
    pub standings: Vec<Standing>,
}

/// A part of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chapter {
    /// A few words.
    pub title: String,
    /// Sentences, each perhaps about a moment.
    pub lines: Vec<Sentence>,
}

/// A sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// The moment that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Micros>,
    /// The sentence.
    pub text: String,
}

/// How a machine stood at the moment that an account is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which machine.
    pub node: usize,
    /// What its daemon was doing.
    pub daemon: String,
    /// Its view, with the members.
    pub view: String,
    /// Its lease.
    pub lease: String,
    /// Its guardian.
    pub guardian: String,
    /// Its gate.
    pub gate: String,
    /// What its kernel answered for.
    pub answers: String,
}

/// A machine's lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLane {
    /// Its name.
    pub name: String,
    /// What is special about it, for the hover text; may be empty.
    #[serde(default)]
    pub detail: String,
    /// By how much its clock went wrong at first, in parts per million; a fast clock has a positive one.
    #[serde(default)]
    pub clock_ppm: i64,
    /// Whether its kernel has a gate; nothing if that is not known.
    #[serde(default)]
    pub gate: Option<bool>,
    /// What machine and daemon were doing.
    #[serde(default)]
    pub states: Vec<StateSpan>,
    /// The views that it was in.
    #[serde(default)]
    pub views: Vec<ViewSpan>,
    /// What it thought of its links to the others.
    #[serde(default)]
    pub links: Vec<LinkSpan>,
    /// When it was allowed to own VIPs.
    #[serde(default)]
    pub mature: Vec<[Micros; 2]>,
    /// When a lease ran.
    #[serde(default)]
    pub leases: Vec<LeaseSpan>,
    /// What its guardian was doing; empty where none is meant to be.
    #[serde(default)]
    pub guardian: Vec<StateSpan>,
    /// When its gate kept addresses from answering that were there.
    #[serde(default)]
    pub shut: Vec<[Micros; 2]>,
}

/// How something was for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// How it was: for machines a word of [`MACHINE_STATES`], for guardians one of [`GUARDIAN_STATES`].
    pub state: String,
    /// In words.
    pub text: String,
}

/// The words that a page has a look for, for machines.
pub const MACHINE_STATES: [&str; 7] =
    ["off", "running", "leaving", "paused", "frozen", "killed", "ended"];
/// The words that a page has a look for, for guardians; `absent` is not drawn.
pub const GUARDIAN_STATES: [&str; 6] = ["absent", "watching", "acting", "paused", "dead", "lost"];

/// A view that a node was in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// Its name.
    pub view: String,
    /// Its members.
    pub members: Vec<usize>,
    /// It may hold VIPs.
    pub primary: bool,
    /// Why it ended; empty if another view followed.
    #[serde(default)]
    pub ended: String,
}

/// What a node thought of the link to a peer for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// Which peer.
    pub peer: usize,
    /// `two-way`, `one-way` (the peer is heard and does not hear) or `silent`.
    pub state: String,
}

/// A lease that ran for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// It was given back or went with the power; otherwise it ran out.
    #[serde(default)]
    pub ended: bool,
    /// Pairs: when it was told, and until when it ran then.
    #[serde(default)]
    pub told: Vec<[Micros; 2]>,
}

/// A VIP's lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipLane {
    /// Its name.
    pub name: String,
    /// What is special about it, for the hover text; may be empty.
    #[serde(default)]
    pub detail: String,
    /// On which machines it was.
    #[serde(default)]
    pub held: Vec<HeldSpan>,
    /// When two kernels answered for it and were compared with each other.
    #[serde(default)]
    pub overlaps: Vec<OverlapSpan>,
    /// Who answered the clients.
    #[serde(default)]
    pub seen: Vec<SeenSpan>,
}

/// For a while a machine had a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// Which machine.
    pub node: usize,
    /// Its kernel answered; otherwise the addresses were there behind a shut gate, or on a machine that was stopped.
    pub answers: bool,
    /// Why it got it, and how it lost it.
    #[serde(default)]
    pub text: String,
}

/// For a while two machines answered for one VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlapSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// Which machines.
    pub nodes: [usize; 2],
    /// Why that was allowed when it began; nothing if it was not.
    pub excuse: Option<String>,
}

/// For a while a client was answered by the same machine, or by nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSpan {
    /// From when.
    pub from: Micros,
    /// Until when.
    pub to: Micros,
    /// Which client.
    pub client: usize,
    /// Who answered; nobody if there is none.
    pub by: Option<usize>,
}

/// A fault or a broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When.
    pub at: Micros,
    /// A promise was broken.
    pub broken: bool,
    /// What. Of a broken promise: which, a colon, and a sentence.
    pub text: String,
    /// Which machines it concerns; the network if none.
    #[serde(default)]
    pub nodes: Vec<usize>,
}

/// A line of the table of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Micros,
    /// Of which kind, for the filter: such as `fault`, `view`, `address`.
    pub kind: String,
    /// Whose, if it is one machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// About which VIP, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<usize>,
    /// What.
    pub text: String,
}

/// What was on the wires.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// How many there were, those that were left out included.
    pub seen: usize,
    /// The kinds, by position.
    pub kinds: Vec<String>,
    /// By the time at which they were sent.
    pub sent: Vec<Message>,
}

/// One datagram: written as an array, because there are many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message(
    /// When it was sent.
    pub Micros,
    /// When it arrived; when it should have if it was lost.
    pub Micros,
    /// Its sender.
    pub usize,
    /// Its receiver.
    pub usize,
    /// Its kind, by position.
    pub usize,
    /// It was lost on the wire.
    pub u8,
    /// What it says, in a few words; may be empty.
    pub String,
);
