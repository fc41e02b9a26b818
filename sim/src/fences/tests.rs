//! What shuts, who kills whom, and when an address goes by itself.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn until(ms_: u64) -> Lease {
    Lease::Until(Instant::after_origin(ms(ms_)))
}

/// One machine that holds one VIP under a lease of 400 ms.
struct Scene {
    fences: Fences,
    kernels: Kernels,
    oscillator: Rc<Cell<Oscillator>>,
    daemon: Daemon,
}

impl Scene {
    fn new(spec: FenceSpec) -> Self {
        let oscillator: Rc<Cell<Oscillator>> = Rc::default();
        let respawn = Some(Span::exactly(ms(3)));
        let mut fences = Fences::new(vec![(spec, Rc::clone(&oscillator))], respawn, 1);
        let mut kernels = Kernels::new(1, 1);
        kernels.power_on(0);
        fences.daemon_starts(0);
        fences.renew(ms(0), 0, until(400));
        kernels.set(0, 0, true);
        Self { fences, kernels, oscillator, daemon: Daemon::Running(ms(0)) }
    }

    fn at(&mut self, now: u64) -> Vec<Order> {
        let mut orders = Vec::new();
        self.fences.step(ms(now), &[self.daemon], &mut self.kernels, true, &mut orders);
        orders
    }

    /// When the first order comes, looking each millisecond, and which.
    fn first(&mut self, from: u64, to: u64) -> Option<(u64, Order)> {
        (from..to).find_map(|now| self.at(now).first().map(|order| (now, *order)))
    }

    fn answers(&self) -> bool {
        self.kernels.answers(0, 0)
    }
}

const GATE: FenceSpec = FenceSpec { gate: true, ..FenceSpec::NONE };
const GUARDIAN: FenceSpec = FenceSpec { guardian: true, ..FenceSpec::NONE };
const LIFETIMES: FenceSpec = FenceSpec { lifetime: true, ..FenceSpec::NONE };

#[test]
fn a_gate_shuts_at_the_leases_end_on_the_machines_own_clock() {
    let mut scene = Scene::new(GATE);
    scene.at(399);
    assert!(scene.answers());
    scene.at(400);
    assert!(!scene.answers());

    let mut slow = Scene::new(GATE);
    let mut oscillator = slow.oscillator.get();
    oscillator.set_drift(ms(0), -200_000);
    slow.oscillator.set(oscillator);
    slow.at(499);
    assert!(slow.answers());
    slow.at(501);
    assert!(!slow.answers());
}

#[test]
fn what_a_clock_does_next_is_never_told_too_late() {
    for drift in [-200_000, -333, 0, 7, 250_000, 600_000] {
        let mut scene = Scene::new(GATE);
        let mut oscillator = scene.oscillator.get();
        oscillator.set_drift(ms(0), drift);
        scene.oscillator.set(oscillator);
        scene.at(0);
        let told = scene.fences.next_step();
        let shuts = (1..1000).find(|&now| {
            scene.at(now);
            !scene.answers()
        });
        let shuts = ms(shuts.expect("the lease ends"));
        let told = told.expect("something is due");
        assert!(told <= shuts && told + ms(1) > shuts, "{drift}: {told:?}, {shuts:?}");
    }
}

#[test]
fn a_gate_that_nobody_was_given_a_lease_for_is_shut() {
    let mut scene = Scene::new(GATE);
    scene.fences.renew(ms(0), 0, Lease::None);
    assert!(scene.fences.shut(ms(1), 0));
    scene.at(1);
    assert!(!scene.answers());
}

#[test]
fn a_guardian_acts_within_milliseconds_of_a_death_and_only_once() {
    let mut scene = Scene::new(GUARDIAN);
    assert_eq!(scene.first(0, 100), None);
    scene.daemon = Daemon::Killed;
    let (at, order) = scene.first(100, 400).expect("the guardian acts");
    assert_eq!(order, Order::Guard(0));
    assert!((101..=111).contains(&at), "{at}");
    assert!(!scene.fences.guarded(0));
    assert_eq!(scene.first(at + 1, 5000), None);
}

#[test]
fn a_guardian_acts_when_a_paused_daemon_misses_its_lease() {
    let mut scene = Scene::new(GUARDIAN);
    scene.daemon = Daemon::Paused(ms(0));
    let (at, _) = scene.first(0, 1000).expect("the guardian acts");
    assert!((401..=411).contains(&at), "{at}");
    assert!(ms(at) <= ms(400) + GUARDIAN.guardian_max(1));
}

#[test]
fn a_guardian_lets_a_daemon_live_that_has_let_go_in_time() {
    let mut scene = Scene::new(GUARDIAN);
    assert_eq!(scene.at(400), []);
    scene.kernels.set(0, 0, false);
    assert_eq!(scene.first(401, 2000), None);
}

#[test]
fn a_killed_guardian_is_replaced_by_a_daemon_that_runs_and_by_no_other() {
    let mut scene = Scene::new(GUARDIAN);
    scene.at(0);
    scene.daemon = Daemon::Paused(ms(0));
    scene.fences.kill_guardian(0);
    assert_eq!(scene.first(1, 5000), None, "both are out of action");
    assert!(!scene.fences.guarded(0));
    scene.daemon = Daemon::Running(ms(0));
    scene.fences.renew(ms(0), 0, until(9000));
    scene.at(5000);
    scene.at(5003);
    assert!(scene.fences.guarded(0));

    scene.fences.respawn = None;
    scene.fences.kill_guardian(0);
    assert_eq!(scene.first(5004, 6000), Some((5004, Order::Unguarded(0))));
}

#[test]
fn a_paused_guardian_does_nothing_until_it_goes_on() {
    let mut scene = Scene::new(GUARDIAN);
    scene.fences.pause_guardian(0);
    scene.daemon = Daemon::Killed;
    assert_eq!(scene.first(0, 1000), None);
    assert!(scene.fences.guarded(0), "whoever starts waits for it");
    scene.fences.resume_guardian(0);
    assert!(scene.first(1000, 1012).is_some());
}

#[test]
fn addresses_vanish_at_the_kernels_sweep_when_nobody_renews_them() {
    let mut scene = Scene::new(LIFETIMES);
    scene.fences.renew(ms(0), 0, until(60_000));
    assert_eq!(scene.first(0, 5000), None, "renewed as long as the daemon runs");
    scene.daemon = Daemon::Killed;
    let (at, order) = scene.first(5000, 9000).expect("the sweep");
    assert_eq!(order, Order::Expire(0));
    assert!((5600..=6900).contains(&at), "{at}");
}

#[test]
fn lifetimes_are_not_renewed_past_the_lease() {
    let mut scene = Scene::new(LIFETIMES);
    let (at, _) = scene.first(0, 9000).expect("the sweep");
    assert!((1000..=400 + 1900).contains(&at), "{at}");
}

#[test]
fn nothing_happens_on_a_machine_that_its_hypervisor_has_stopped() {
    let mut scene = Scene::new(FenceSpec::ALL);
    scene.at(300);
    let mut oscillator = scene.oscillator.get();
    oscillator.set_stopped(ms(300), true);
    scene.oscillator.set(oscillator);
    scene.kernels.set_frozen(0, true);
    assert_eq!(scene.first(300, 9000), None);
    oscillator.set_stopped(ms(9000), false);
    scene.oscillator.set(oscillator);
    scene.kernels.set_frozen(0, false);
    scene.at(9099);
    assert!(scene.answers(), "its lease goes on where it stood");
    scene.at(9100);
    assert!(!scene.answers());
}

#[test]
fn a_new_guardian_acts_on_what_is_overdue_whether_anything_else_happens_or_not() {
    let mut scene = Scene::new(GUARDIAN);
    scene.at(390);
    scene.fences.kill_guardian(0);
    scene.at(399);
    assert_eq!(scene.fences.guardian(0), GuardianState::Dead(Some(ms(402))));
    let acts = (400..450).find(|&now| {
        let mut orders = Vec::new();
        let Scene { fences, kernels, daemon, .. } = &mut scene;
        fences.step(ms(now), &[*daemon], kernels, false, &mut orders);
        orders.contains(&Order::Guard(0))
    });
    assert!(acts.is_some_and(|at| at <= 402 + 1 + 10 + 1), "the lease was over at 400: {acts:?}");
}
