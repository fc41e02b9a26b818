//! Whatever comes in whatever order, with a worker that does one thing at a time for each VIP.

use proptest::prelude::*;

use super::*;

const VIPS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    Desire(u8),
    /// Some piece of work ends.
    Done {
        pick: usize,
        fails: bool,
    },
    /// Somebody takes an address away.
    Vanish(u8),
    InterfacesChanged,
    AnnounceAgain(u8),
    Wait(u64),
    /// Until the next deadline.
    Sleep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..1 << VIPS).prop_map(Op::Desire),
        8 => (any::<usize>(), prop::bool::weighted(0.3))
            .prop_map(|(pick, fails)| Op::Done { pick, fails }),
        2 => (0..VIPS).prop_map(Op::Vanish),
        1 => Just(Op::InterfacesChanged),
        1 => (0u8..1 << VIPS).prop_map(Op::AnnounceAgain),
        2 => (0u64..3_000).prop_map(Op::Wait),
        3 => Just(Op::Sleep),
    ]
}

struct Trial {
    reconciler: Reconciler,
    now: Instant,
    generation: u64,
    desired: BTreeSet<VipId>,
    /// When a VIP came in or went out last, and what of it has been told since: held, released.
    changed: BTreeMap<VipId, u64>,
    told: BTreeMap<VipId, Vec<bool>>,
    /// Vanished or failed since the last change, so that it is told once more when it is back.
    shaken: BTreeSet<VipId>,
    /// Handed to the worker and not answered.
    in_flight: Vec<Work>,
    /// What the kernel really has: some or all of the VIP.
    kernel: BTreeSet<VipId>,
    /// All of it.
    whole: BTreeSet<VipId>,
}

fn some(mask: u8) -> BTreeSet<VipId> {
    (0..VIPS).filter(|i| mask >> i & 1 == 1).map(|i| vip(i).id()).collect()
}

fn change_of(work: &Work) -> Option<(VipId, Operation)> {
    match &work.action {
        Action::Acquire(vip) => Some((vip.id(), Operation::Acquire)),
        Action::Release(vip) => Some((vip.id(), Operation::Release)),
        Action::CleanUp | Action::Announce(_) | Action::Probe(_) | Action::FenceNode(_) => None,
    }
}

impl Trial {
    fn new() -> Self {
        Self {
            reconciler: Reconciler::new(&config(VIPS, Partition::Component)),
            now: start(),
            generation: 0,
            desired: BTreeSet::new(),
            changed: BTreeMap::new(),
            told: BTreeMap::new(),
            shaken: BTreeSet::new(),
            in_flight: Vec::new(),
            kernel: BTreeSet::new(),
            whole: BTreeSet::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Desire(mask) => self.desire(some(mask)),
            Op::Done { pick, fails } if !self.in_flight.is_empty() => {
                self.finish(pick % self.in_flight.len(), fails);
            }
            Op::Done { .. } => {}
            Op::Vanish(i) => {
                let id = vip(i).id();
                if self.whole.remove(&id) {
                    self.shaken.insert(id);
                    self.reconciler.handle_event(AddressEvent::Vanished(id), self.now);
                }
            }
            Op::InterfacesChanged => {
                self.reconciler.handle_event(AddressEvent::InterfacesChanged, self.now);
            }
            Op::AnnounceAgain(mask) => self.reconciler.announce_again(&some(mask), self.now),
            Op::Wait(length) => self.now = self.now + ms(length),
            Op::Sleep => {
                let at = self.reconciler.poll_timeout().at;
                if at != Instant::FAR_FUTURE {
                    self.now = self.now.max(at);
                }
            }
        }
        if self.reconciler.poll_timeout().at <= self.now {
            self.reconciler.handle_timeout(self.now);
            assert!(self.reconciler.poll_timeout().at > self.now, "due again at once");
        }
        self.take_outputs();
    }

    fn desire(&mut self, desired: BTreeSet<VipId>) {
        self.generation += 1;
        for &id in self.desired.symmetric_difference(&desired) {
            self.changed.insert(id, self.generation);
            self.told.insert(id, vec![]);
            self.shaken.remove(&id);
        }
        self.reconciler.handle_desired(self.generation, &desired, self.now);
        self.desired = desired;
    }

    fn finish(&mut self, pick: usize, fails: bool) {
        // Work on one VIP keeps its order.
        let vip = change_of(&self.in_flight[pick]).map(|(id, _)| id);
        let same = |work: &Work| vip.is_some() && change_of(work).map(|(id, _)| id) == vip;
        let pick = self.in_flight.iter().position(same).unwrap_or(pick);
        let work = self.in_flight.remove(pick);
        let result = if fails { Err(trouble()) } else { Ok(()) };
        match change_of(&work) {
            Some((id, operation)) if fails => {
                // What was there before may be there still.
                if operation == Operation::Acquire {
                    self.whole.remove(&id);
                }
                self.shaken.insert(id);
            }
            Some((id, Operation::Acquire)) => {
                self.kernel.insert(id);
                self.whole.insert(id);
            }
            Some((id, Operation::Release)) => {
                self.kernel.remove(&id);
                self.whole.remove(&id);
            }
            None => {}
        }
        done(&mut self.reconciler, &work, result, self.now);
    }

    fn take_outputs(&mut self) {
        while let Some(work) = self.reconciler.poll_work() {
            match &work.action {
                Action::Announce(vip) => {
                    assert!(self.desired.contains(&vip.id()), "announced, and not desired");
                    assert!(self.whole.contains(&vip.id()), "announced, and not there");
                    let same = |work: &Work| matches!(&work.action, Action::Announce(other) if other.id() == vip.id());
                    assert!(
                        !self.in_flight.iter().any(same),
                        "a second announcement waits for the first"
                    );
                }
                Action::CleanUp => panic!("that is the driver's business"),
                Action::Probe(_) | Action::FenceNode(_) => panic!("nobody asked for that"),
                Action::Acquire(vip) | Action::Release(vip) => {
                    let release = matches!(work.action, Action::Release(_));
                    let mut busy = self.in_flight.iter().filter_map(change_of);
                    let fits = |operation| release && operation == Operation::Acquire;
                    let odd = busy.any(|(id, operation)| id == vip.id() && !fits(operation));
                    assert!(!odd, "two at once for {vip}");
                }
            }
            self.in_flight.push(work);
        }
        for outcome in outcomes(&mut self.reconciler) {
            match outcome {
                AddressOutcome::Held { vip, generation } => {
                    self.check_told(vip, generation, true);
                    assert!(self.kernel.contains(&vip), "told as held, and not there");
                }
                AddressOutcome::Released { vip, generation } => {
                    self.check_told(vip, generation, false);
                    assert!(!self.kernel.contains(&vip), "told as released, and still there");
                }
                AddressOutcome::Failed { vip, generation, given_up, .. } => {
                    assert_eq!(Some(&generation), self.changed.get(&vip));
                    assert!(!given_up || self.desired.contains(&vip), "nobody wants it");
                }
                AddressOutcome::Vanished { retry_in, .. } => assert!(retry_in <= RETRY_MAX),
                AddressOutcome::Cleared { .. }
                | AddressOutcome::Stale { .. }
                | AddressOutcome::Occupied { .. }
                | AddressOutcome::Contested { .. }
                | AddressOutcome::Servable { .. } => panic!("nobody asked for that"),
            }
        }
    }

    fn check_told(&mut self, id: VipId, generation: u64, is_held: bool) {
        assert_eq!(self.desired.contains(&id), is_held, "told what is not desired");
        assert_eq!(Some(&generation), self.changed.get(&id));
        let told = self.told.entry(id).or_default();
        told.push(is_held);
        assert!(told.len() == 1 || is_held && self.shaken.contains(&id), "told twice: {told:?}");
    }

    /// Nothing fails any more: in the end all is as desired, and has been told.
    fn calm_down(&mut self) {
        for _ in 0..400 {
            if self.in_flight.is_empty() {
                self.apply(&Op::Sleep);
            } else {
                self.finish(0, false);
                self.take_outputs();
            }
        }
        assert_eq!(self.kernel, self.desired);
        assert_eq!(self.whole, self.desired);
        for (id, told) in &self.told {
            assert_eq!(told.last(), Some(&self.desired.contains(id)), "{id} {told:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_change_is_carried_out_and_told_once(ops in proptest::collection::vec(op(), 1..80)) {
        let mut trial = Trial::new();
        for op in &ops {
            trial.apply(op);
        }
        trial.calm_down();
    }
}
