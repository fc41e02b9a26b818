//! What a node remembers of the votes, and what it learns from what others remember.
//!
//! Everything in a record but `accepted` and `voice` is a fact about the cluster and may be taken over from anybody;
//! those two are the node's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ViewId};

/// How many unresolved attempts a record holds; a node with so many accepts no further one. One more appears only when
/// a coordinator dies in mid-agreement, and all of them go with the next primary view.
pub const ATTEMPTS_MAX: usize = 64;

/// A view that was, or may have been, formed as a primary one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Formed {
    /// Its ballot, which is the view's name.
    pub ballot: ViewId,
    /// Its members in rank order: the first breaks ties.
    pub voters: Vec<NodeId>,
}

/// Where the vote of a node went that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Proxy {
    /// Who has it.
    pub to: NodeId,
    /// It is the vote in views up to this ballot. In later ones, of which the node is a member because it came back, its
    /// vote is its own.
    pub up_to: ViewId,
}

/// Leaver → whom it gave its vote, and with it every vote that others had given to the leaver.
pub type Proxies = BTreeMap<NodeId, Proxy>;

/// What a node keeps on disk. The default is a blank disk: nothing is known, and no vote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Raised when an operator forces a primary view; whatever is known of a higher one replaces all of a lower one.
    pub lineage: u64,
    /// The last primary view that is known to have been formed.
    pub primary: Option<Formed>,
    /// Later attempts not known to have failed, by ballot.
    pub attempts: Vec<Formed>,
    /// The highest ballot of a primary view that this node accepted. Its own; never learnt.
    pub accepted: ViewId,
    /// Whether this node's vote counts. A disk that was lost forgot what it accepted, and has none until it has accepted a
    /// view that is known to have been formed. Its own; never learnt.
    pub voice: bool,
    /// Votes given away, as to `primary` and later.
    pub proxies: Proxies,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            lineage: 0,
            primary: None,
            attempts: Vec::new(),
            accepted: ViewId::NONE,
            voice: false,
            proxies: Proxies::new(),
        }
    }
}

impl Record {
    /// The record as it may be told to others: `stored` is the `accepted` of the last record that is surely on the disk.
    ///
    /// Others conclude from `accepted` what this node will never accept, and after a crash it knows only what is on the
    /// disk. All the rest is true whether it is on the disk or not.
    pub fn said(&self, stored: ViewId) -> Self {
        Self { accepted: self.accepted.min(stored), ..self.clone() }
    }

    /// Takes over what others `said`, each by its name, and concludes from it which attempts have failed.
    pub fn learn(&mut self, me: NodeId, said: &[(NodeId, &Self)]) {
        let before = self.clone();
        for (_, other) in said {
            self.take_over(other);
        }
        for (node, other) in said.iter().copied().chain([(me, &before)]) {
            if other.lineage == self.lineage {
                self.attempts.retain(|attempt| !other.rules_out(node, attempt));
            }
        }
        self.settle(me);
    }

    /// Notes that an attempt which this node accepted was formed, in this lineage. Writing that down may wait: until it is
    /// written, a restart finds the attempt unresolved, which asks for more votes, never for fewer.
    ///
    /// Returns whether anything changed. What was not accepted is ignored, and so is what static majority needs not know.
    pub fn install(&mut self, me: NodeId, lineage: u64, formed: &Formed) -> bool {
        if lineage != self.lineage || !self.attempts.contains(formed) {
            return false;
        }
        self.primary = Some(formed.clone());
        self.settle(me);
        true
    }

    /// Notes that this node has accepted a view of that ballot, of whatever kind, so that it will accept no lower one. An attempt
    /// that it has only heard of, and of which it would be a voter, has failed with that: the accept of each voter was needed.
    /// Otherwise a coordinator that dies before anybody has accepted its attempt would bind all who heard of it until it comes back.
    ///
    /// Returns whether anything changed.
    pub fn overtake(&mut self, me: NodeId, ballot: ViewId) -> bool {
        if !self.voice {
            return false; // who lost its disk does not know what it accepted
        }
        let accepted = self.accepted;
        let failed = |attempt: &Formed| {
            attempt.ballot > accepted && attempt.ballot < ballot && attempt.voters.contains(&me)
        };
        let highest = self.attempts.iter().filter(|a| failed(a)).map(|a| a.ballot).max();
        self.attempts.retain(|attempt| !failed(attempt));
        self.accepted = highest.unwrap_or(ViewId::NONE).max(accepted);
        highest.is_some()
    }

    /// The record after an operator declared this node alone to be the primary view, in a lineage that nobody has used.
    ///
    /// Alone, because nobody else knows of it yet; the others join by the ordinary agreement. Must be on the disk before
    /// anything is proposed by it.
    pub fn force(&self, me: NodeId) -> Self {
        let epoch = self.highest().epoch.saturating_add(1);
        let ballot = ViewId { epoch, coordinator: me };
        // The count, and who counted: two operators who force at the same time on two machines start two lineages.
        let lineage = ((self.lineage >> 32).saturating_add(1) << 32) | u64::from(me.0);
        Self {
            lineage,
            primary: Some(Formed { ballot, voters: vec![me] }),
            attempts: Vec::new(),
            accepted: ballot,
            voice: true,
            proxies: Proxies::new(),
        }
    }

    /// The highest ballot that this record knows of; a proposal needs a higher one.
    pub fn highest(&self) -> ViewId {
        let views = self.views().map(|view| view.ballot);
        let given = self.proxies.values().map(|proxy| proxy.up_to);
        views.chain(given).fold(self.accepted, ViewId::max)
    }

    /// Whether the node that said this has no vote in a lineage: it lost its disk, or has never been in that lineage.
    pub fn is_mute(&self, lineage: u64) -> bool {
        !self.voice || self.lineage < lineage
    }

    /// The views of which the next primary one needs a deciding set.
    pub fn views(&self) -> impl Iterator<Item = &Formed> {
        self.primary.iter().chain(&self.attempts)
    }

    /// Lower than every ballot unless a primary view is known.
    pub(super) fn primary_ballot(&self) -> ViewId {
        self.primary.as_ref().map_or(ViewId::NONE, |primary| primary.ballot)
    }

    fn take_over(&mut self, other: &Self) {
        if other.lineage < self.lineage {
            return;
        }
        if other.lineage > self.lineage {
            // Perhaps this disk has been in that lineage and was lost since: so no vote until a view is formed.
            *self = Self { lineage: other.lineage, accepted: self.accepted, ..Self::default() };
        }
        if other.primary_ballot() > self.primary_ballot() {
            self.primary.clone_from(&other.primary);
        }
        for attempt in &other.attempts {
            if let Err(at) = self.attempts.binary_search(attempt) {
                self.attempts.insert(at, attempt.clone());
            }
        }
        for (&leaver, &proxy) in &other.proxies {
            let known = self.proxies.entry(leaver).or_insert(proxy);
            if known.up_to < proxy.up_to {
                *known = proxy;
            }
        }
    }

    /// Whether `attempt` is sure to have failed because `node`, one of its voters, said this: it has not accepted it (or
    /// knows that it failed), and what it has accepted is higher. A coordinator that gave up says just that.
    pub(crate) fn rules_out(&self, node: NodeId, attempt: &Formed) -> bool {
        self.voice // who lost its disk does not know what it accepted
            && attempt.voters.contains(&node)
            && self.accepted >= attempt.ballot
            && self.primary_ballot() < attempt.ballot
            && !self.attempts.contains(attempt)
    }

    /// Drops what the primary view settles, and finds out whether it gives this node its vote back.
    fn settle(&mut self, me: NodeId) {
        let formed = self.primary_ballot();
        self.attempts.retain(|attempt| attempt.ballot > formed);
        self.proxies.retain(|_, proxy| proxy.up_to >= formed);
        if let Some(primary) = &self.primary
            && primary.ballot == self.accepted
            && primary.voters.contains(&me)
        {
            self.voice = true;
        }
    }
}
