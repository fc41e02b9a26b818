//! What the world looked like between the events of the journal: who answered for each VIP, what each machine was doing,
//! until when its lease ran, what became of its guardian, and who answered each client. Only changes are kept.
//!
//! It is written by looking at the truth after every tick, as the checkers do, so that whoever explains a run
//! ([`crate::account`]) need not work out again what each fault did. Leases are noted when they are told, at most once a
//! millisecond.

use wackamole_protocol::time::Duration;

use crate::clients::Clients;
use crate::fences::{Fences, Watch};
use crate::kernels::Kernels;
use crate::segment::Daemon;

/// Something is otherwise from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// From when, in the world's time.
    pub at: Duration,
    /// What.
    pub to: State,
}

/// What is otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A machine's kernel answers for a VIP, or no longer does, whatever the reason.
    Answers {
        /// Whose.
        node: usize,
        /// For which VIP.
        vip: usize,
        /// It does.
        yes: bool,
    },
    /// A machine and its daemon do something else.
    Doing {
        /// Which.
        node: usize,
        /// What they do now.
        doing: Doing,
    },
    /// A guardian does something else.
    Guardian {
        /// Whose.
        node: usize,
        /// What it does now.
        watch: Watch,
    },
    /// A daemon told its fences until when it may answer.
    Lease {
        /// Whose.
        node: usize,
        /// Until then in the world's time, as its clock goes at this moment; `None` where nothing is held.
        until: Option<Duration>,
    },
    /// A lease is over on its machine's own clock, and was not renewed.
    LeaseOver {
        /// Whose.
        node: usize,
    },
    /// Somebody else answers a client.
    Seen {
        /// Which client.
        client: usize,
        /// For which VIP.
        vip: usize,
        /// Who answers now.
        by: Option<usize>,
    },
}

/// What a machine and the daemon on it are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// The machine is off.
    #[default]
    Off,
    /// The daemon runs.
    Running,
    /// It runs, and has been asked to leave.
    Leaving,
    /// It is stopped by SIGSTOP; its kernel answers on.
    Paused,
    /// The hypervisor has stopped the machine and its clock.
    Frozen,
    /// The daemon is gone without a word; its kernel answers on.
    Killed,
    /// The daemon has left.
    Ended,
}

impl Doing {
    /// A few words for people.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Off => "powered off",
            Self::Running => "running",
            Self::Leaving => "leaving",
            Self::Paused => "paused",
            Self::Frozen => "stopped by its host",
            Self::Killed => "dead",
            Self::Ended => "has left",
        }
    }
}

/// What the chronicle looks at after each tick.
pub struct Scene<'a> {
    /// The address tables.
    pub kernels: &'a Kernels,
    /// The fences.
    pub fences: &'a Fences,
    /// The daemons.
    pub daemons: &'a [Daemon],
    /// Who has been asked to leave.
    pub leaving: &'a [bool],
    /// The clients.
    pub clients: &'a Clients,
}

/// All changes, in order.
#[derive(Clone, Debug, Default)]
pub struct Chronicle {
    changes: Vec<Change>,
    answers: Vec<bool>,
    doing: Vec<Doing>,
    watches: Vec<Watch>,
    leases: Vec<Told>,
    seen: Vec<Option<usize>>,
}

/// What is remembered of a machine's lease.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    runs: bool,
    /// Where the last one stands among the changes.
    position: Option<usize>,
}

impl Chronicle {
    /// A chronicle of machines that are off.
    pub fn new(nodes: usize, vips: usize, clients: usize) -> Self {
        Self {
            changes: Vec::new(),
            answers: vec![false; nodes * vips],
            doing: vec![Doing::Off; nodes],
            watches: vec![Watch::Absent; nodes],
            leases: vec![Told::default(); nodes],
            seen: vec![None; clients * vips],
        }
    }

    /// The same with its changes by time; what was noted of one instant stays in that order.
    pub fn sorted(mut self) -> Self {
        self.changes.sort_by_key(|change| change.at);
        self
    }

    /// A chronicle of what is known otherwise, by time.
    pub fn of(changes: impl IntoIterator<Item = (Duration, State)>) -> Self {
        let changes = changes.into_iter().map(|(at, to)| Change { at, to }).collect();
        Self { changes, ..Self::default() }
    }

    /// All changes; by time in what came of a run.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// A daemon tells its lease, which ends at `until` as its clock goes now.
    pub fn lease(&mut self, now: Duration, node: usize, until: Option<Duration>) {
        let told = &mut self.leases[node];
        if until.is_none() && !told.runs {
            return;
        }
        let change = Change { at: now, to: State::Lease { node, until } };
        match told.position.filter(|&position| told.runs && self.changes[position].at == now) {
            Some(position) => self.changes[position] = change,
            None => {
                told.position = Some(self.changes.len());
                self.changes.push(change);
            }
        }
        told.runs = until.is_some();
    }

    /// Notes which leases are over; to be called in each tick, as no change tells of them.
    pub fn look_at_leases(&mut self, now: Duration, scene: &Scene<'_>) {
        for (node, told) in self.leases.iter_mut().enumerate() {
            if told.runs && !scene.fences.leased(now, node) {
                told.runs = false;
                // It ends between two looks, and where there is no gate nobody has to look just then.
                let at = scene.fences.lease_end(node).map_or(now, |end| end.min(now));
                self.changes.push(Change { at, to: State::LeaseOver { node } });
            }
        }
    }

    /// Notes what is otherwise than at the last look. Address tables and clients are looked at only if `changed`.
    pub fn look(&mut self, now: Duration, changed: bool, scene: &Scene<'_>) {
        let Self { changes, answers, doing, watches, seen, .. } = self;
        for node in 0..doing.len() {
            let does = does(node, scene);
            if std::mem::replace(&mut doing[node], does) != does {
                changes.push(Change { at: now, to: State::Doing { node, doing: does } });
            }
            let watch = scene.fences.watch(node);
            if std::mem::replace(&mut watches[node], watch) != watch {
                changes.push(Change { at: now, to: State::Guardian { node, watch } });
            }
        }
        if !changed {
            return;
        }
        let mut note = |to| changes.push(Change { at: now, to });
        let vips = scene.kernels.vips();
        for (index, answered) in answers.iter_mut().enumerate() {
            let (node, vip) = (index / vips, index % vips);
            let yes = scene.kernels.answers(node, vip);
            if std::mem::replace(answered, yes) != yes {
                note(State::Answers { node, vip, yes });
            }
        }
        for (index, seen) in seen.iter_mut().enumerate() {
            let (client, vip) = (index / vips, index % vips);
            let by = scene.clients.answered_by(client, vip);
            if std::mem::replace(seen, by) != by {
                note(State::Seen { client, vip, by });
            }
        }
    }
}

fn does(node: usize, scene: &Scene<'_>) -> Doing {
    if !scene.kernels.powered(node) {
        return Doing::Off;
    }
    if !scene.kernels.runs(node) {
        return Doing::Frozen;
    }
    match scene.daemons[node] {
        Daemon::Off => Doing::Off,
        Daemon::Running(_) if scene.leaving[node] => Doing::Leaving,
        Daemon::Running(_) => Doing::Running,
        Daemon::Paused(_) => Doing::Paused,
        Daemon::Frozen(_) => Doing::Frozen,
        Daemon::Killed => Doing::Killed,
        Daemon::Ended => Doing::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn leases_are_noted_once_an_instant_and_their_end_once() {
        let mut chronicle = Chronicle::new(1, 0, 0);
        chronicle.lease(ms(1), 0, None);
        assert_eq!(chronicle.changes(), [], "nothing was held, and nothing is");
        chronicle.lease(ms(2), 0, Some(ms(400)));
        chronicle.lease(ms(2), 0, Some(ms(401)));
        chronicle.lease(ms(3), 0, Some(ms(402)));
        let (kernels, clients) = (Kernels::new(1, 0), Clients::new(0, 0, ms(1), 1));
        let fences = Fences::none(1);
        for now in [403, 404] {
            let scene = Scene {
                kernels: &kernels,
                fences: &fences,
                daemons: &[Daemon::Off],
                leaving: &[false],
                clients: &clients,
            };
            chronicle.look(ms(now), true, &scene);
            chronicle.look_at_leases(ms(now), &scene);
        }
        let lease = |until| State::Lease { node: 0, until: Some(ms(until)) };
        let told = [(2, lease(401)), (3, lease(402)), (403, State::LeaseOver { node: 0 })];
        assert_eq!(chronicle.changes(), told.map(|(at, to)| Change { at: ms(at), to }));
    }

    #[test]
    fn a_kernel_that_answers_is_noted_when_it_begins_and_when_it_ends() {
        let mut chronicle = Chronicle::new(1, 1, 0);
        let mut kernels = Kernels::new(1, 1);
        let (fences, clients) = (Fences::none(1), Clients::new(0, 1, ms(1), 1));
        let mut look = |now, kernels: &Kernels| {
            let scene = Scene {
                kernels,
                fences: &fences,
                daemons: &[Daemon::Killed],
                leaving: &[false],
                clients: &clients,
            };
            chronicle.look(ms(now), true, &scene);
        };
        kernels.power_on(0);
        kernels.set(0, 0, true);
        look(1, &kernels);
        look(2, &kernels);
        kernels.power_off(0);
        look(3, &kernels);
        let answers = |yes| State::Answers { node: 0, vip: 0, yes };
        let doing = |doing| State::Doing { node: 0, doing };
        let told = [
            (1, doing(Doing::Killed)),
            (1, answers(true)),
            (3, doing(Doing::Off)),
            (3, answers(false)),
        ];
        assert_eq!(chronicle.changes(), told.map(|(at, to)| Change { at: ms(at), to }));
    }
}
