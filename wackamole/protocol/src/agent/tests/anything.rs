//! Whatever comes in whatever order: what the agent must never do.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// Owner and holders of each VIP; what we may hold is added, for nobody else could have said it.
    Install(Vec<(Option<u8>, u8)>),
    Freeze,
    Lost,
    Update {
        vip: usize,
        from: usize,
        to: usize,
    },
    Release {
        vip: usize,
        from: usize,
        next: usize,
    },
    Held {
        vip: usize,
        stale: bool,
    },
    Released {
        vip: usize,
        stale: bool,
    },
    Failed {
        vip: usize,
    },
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let (vip, node) = (0usize..3, 0usize..3);
    let fate = (proptest::option::weighted(0.8, 0u8..3), 0u8..8);
    prop_oneof![
        3 => proptest::collection::vec(fate, 3).prop_map(Op::Install),
        1 => Just(Op::Freeze),
        1 => Just(Op::Lost),
        4 => (vip.clone(), node.clone(), node.clone())
            .prop_map(|(vip, from, to)| Op::Update { vip, from, to }),
        4 => (vip.clone(), node.clone(), node)
            .prop_map(|(vip, from, next)| Op::Release { vip, from, next }),
        4 => (vip.clone(), any::<bool>()).prop_map(|(vip, stale)| Op::Held { vip, stale }),
        4 => (vip.clone(), any::<bool>()).prop_map(|(vip, stale)| Op::Released { vip, stale }),
        2 => vip.prop_map(|vip| Op::Failed { vip }),
        1 => Just(Op::Drain),
    ]
}

/// The agent, and what a kernel that does what it is told would know.
struct Trial {
    agent: Agent,
    vips: Vec<VipId>,
    epoch: u64,
    number: u64,
    /// May answer: asked for, and its release not confirmed since.
    answering: BTreeSet<VipId>,
    /// Hand-overs that the decisions and updates have asked of us since the view: at most so many permissions may go.
    asked: BTreeMap<VipId, usize>,
    given: BTreeMap<VipId, usize>,
}

impl Trial {
    fn apply(&mut self, op: &Op) {
        let before = self.agent.desired.clone();
        let was_frozen = self.agent.frozen;
        match op {
            Op::Install(fates) => self.install(fates),
            Op::Freeze => {
                self.agent.state(self.agent.fingerprint());
            }
            Op::Lost => self.agent.handle_view_lost(now()),
            &Op::Update { vip, from, to } => self.update(self.vips[vip], from, to),
            &Op::Release { vip, from, next } if from != ME => {
                release_of(&mut self.agent, from, self.vips[vip], next);
            }
            Op::Release { .. } => {}
            &Op::Held { vip, stale } => self.outcome(vip, stale, true),
            &Op::Released { vip, stale } => self.outcome(vip, stale, false),
            &Op::Failed { vip } => failed(&mut self.agent, self.vips[vip]),
            Op::Drain => self.agent.drain(now()),
        }
        let adds = !self.agent.desired.is_subset(&before);
        assert!(!(adds && was_frozen && self.agent.frozen), "frozen, and yet something is added");
        self.answering.extend(self.agent.desired.iter().copied());
        let messages = told(&mut self.agent, 2);
        for (vip, next) in permissions(&messages) {
            assert!(!self.answering.contains(&vip), "{vip} is given to {next} and may answer");
            *self.given.entry(vip).or_default() += 1;
        }
        self.check();
    }

    fn install(&mut self, fates: &[(Option<u8>, u8)]) {
        self.epoch += 1;
        self.number = 0;
        self.asked.clear();
        self.given.clear();
        let fates: Vec<(Option<u8>, Vec<u8>)> = fates
            .iter()
            .zip(&self.vips)
            .map(|(&(owner, mask), vip)| {
                let may_answer = self.agent.slots[vip].may_answer();
                let is_holder = |i: u8| {
                    if usize::from(i) == ME { may_answer } else { mask >> i & 1 == 1 }
                };
                (owner, (0..3).filter(|&i| is_holder(i)).collect())
            })
            .collect();
        for ((owner, holders), &vip) in fates.iter().zip(&self.vips) {
            if holders.contains(&1) && *owner != Some(1) {
                self.asked.insert(vip, 1);
            }
        }
        let fates: Vec<(Option<u8>, &[u8])> =
            fates.iter().map(|(owner, holders)| (*owner, holders.as_slice())).collect();
        install(&mut self.agent, self.epoch, &fates);
    }

    /// Updates name as the former owner whom the assignment named.
    fn update(&mut self, vip: VipId, from: usize, to: usize) {
        let owner = self.agent.slots[&vip].owner;
        if from == to || owner != Some(node(from)) {
            return;
        }
        if from == ME && !self.agent.frozen && self.agent.view.is_some() {
            *self.asked.entry(vip).or_default() += 1;
        }
        self.number += 1;
        update(&mut self.agent, self.number, vip, from, to);
    }

    fn outcome(&mut self, vip: usize, stale: bool, is_held: bool) {
        let vip = self.vips[vip];
        let changed_in = self.agent.slots[&vip].changed_in;
        if stale {
            let Some(generation) = changed_in.checked_sub(1) else { return };
            let outcome = if is_held {
                AddressOutcome::Held { vip, generation }
            } else {
                AddressOutcome::Released { vip, generation }
            };
            self.agent.handle_addresses(outcome, now());
        } else if is_held == self.agent.desired.contains(&vip) && changed_in > 0 {
            // A kernel answers for what is desired, and only that.
            if is_held {
                held(&mut self.agent, vip);
            } else {
                self.answering.remove(&vip);
                released(&mut self.agent, vip);
            }
        }
    }

    fn check(&self) {
        let agent = &self.agent;
        if agent.view.is_none() {
            assert!(agent.desired.is_empty(), "no view");
        }
        for (vip, slot) in &agent.slots {
            let desired = agent.desired.contains(vip);
            assert_eq!(desired, matches!(slot.local, Local::Wanted | Local::Held), "{slot:?}");
            assert!(slot.may_answer() || !self.answering.contains(vip), "{slot:?}");
            if desired && !agent.frozen {
                assert_eq!(slot.owner, Some(agent.me), "{slot:?}");
                assert!(
                    matches!(slot.permission, Permission::Here | Permission::Awaiting(_)),
                    "{slot:?}"
                );
            }
            let (given, asked) = (self.given.get(vip), self.asked.get(vip));
            assert!(given.unwrap_or(&0) <= asked.unwrap_or(&0), "{given:?} {asked:?} {slot:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_makes_it_take_or_give_what_it_must_not(
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let (agent, vips) = agent();
        let mut trial = Trial {
            agent,
            vips,
            epoch: 0,
            number: 0,
            answering: BTreeSet::new(),
            asked: BTreeMap::new(),
            given: BTreeMap::new(),
        };
        for op in &ops {
            trial.apply(op);
        }
    }
}
