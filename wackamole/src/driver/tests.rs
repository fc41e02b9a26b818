//! The loop around one real node, in an environment that does what it is told and writes down what it was asked.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::future::{pending, poll_fn};
use std::net::IpAddr;
use std::task::Poll;

use wackamole_protocol::config::{
    Balance, ClusterKey, NodeConfig, NodeDefinition, Partition, Safety, Timing, VipDefinition,
};
use wackamole_protocol::id::Incarnation;
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::{Vip, VipAddress};

use super::*;
use crate::env::{Lease, Work};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Renew(Lease),
    Acquire,
    Release,
}

struct World {
    now: Cell<Instant>,
    /// What the loop sleeps until.
    deadline: Cell<Instant>,
    /// When it is told to stop.
    end: Instant,
    calls: RefCell<Vec<(Instant, Call)>>,
    sent: RefCell<Vec<Instant>>,
    done: RefCell<VecDeque<u64>>,
    records: RefCell<VecDeque<u64>>,
    disk_fails: bool,
    /// The kernel does not answer to a release.
    releases_hang: bool,
    /// An operator asks for this, at the start.
    asked: RefCell<Option<Command>>,
    /// Datagrams are always there, and each takes so long.
    flood: Option<Duration>,
}

impl World {
    fn new() -> Self {
        let start = Instant::ORIGIN + ms(1_000);
        Self {
            now: Cell::new(start),
            deadline: Cell::new(start),
            end: start + ms(3_000),
            calls: RefCell::default(),
            sent: RefCell::default(),
            done: RefCell::default(),
            records: RefCell::default(),
            disk_fails: false,
            releases_hang: false,
            asked: RefCell::default(),
            flood: None,
        }
    }

    /// Runs a node until it is told to stop, and has. Time passes only while nothing is to be done.
    async fn run(&self, nodes: &[&str], partition: Partition) -> Left {
        let node = Node::new(config(nodes, partition), Incarnation::new(1, 1), self.now.get());
        let shutdown =
            poll_fn(|_| if self.now.get() >= self.end { Poll::Ready(()) } else { Poll::Pending });
        let (ask, mut commands) = mpsc::channel(1);
        if let Some(command) = self.asked.take() {
            ask.try_send(command).expect("there is room for it");
        }
        let mut observe = |_: Instant, _: Observation<'_>| {};
        run(node, self, self, self, self, self, &mut commands, &mut observe, shutdown)
            .await
            .expect("the clean-up succeeds")
    }

    fn lease(&self) -> Lease {
        let leases = self.calls.borrow();
        let last = leases.iter().rev().find_map(|(_, call)| match call {
            Call::Renew(lease) => Some(*lease),
            Call::Acquire | Call::Release => None,
        });
        last.unwrap_or(Lease::None)
    }

    fn acquired(&self) -> bool {
        self.calls.borrow().iter().any(|(_, call)| *call == Call::Acquire)
    }

    fn call(&self, call: Call) {
        self.calls.borrow_mut().push((self.now.get(), call));
    }

    fn garbage(&self, buffer: &mut [u8], takes: Duration) -> (usize, SocketAddr) {
        self.now.set(self.now.get() + takes);
        buffer[..7].copy_from_slice(b"garbage");
        (7, ([10, 0, 0, 9], 4803).into())
    }
}

impl Network for World {
    fn send(&self, _to: SocketAddr, _datagram: &[u8]) -> io::Result<()> {
        self.sent.borrow_mut().push(self.now.get());
        Ok(())
    }

    fn send_group(&self, _datagram: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Looked at last: whoever comes here has nothing else to do.
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        if let Some(takes) = self.flood {
            return Ok(self.garbage(buffer, takes));
        }
        poll_fn(|context| {
            self.now.set(self.deadline.get().max(self.now.get()));
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
        pending().await
    }

    fn try_recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.flood.map_or_else(
            || Err(io::ErrorKind::WouldBlock.into()),
            |takes| Ok(self.garbage(buffer, takes)),
        )
    }
}

impl Clock for World {
    fn now(&self) -> Instant {
        self.now.get()
    }

    async fn sleep_until(&self, at: Instant) {
        self.deadline.set(at);
        poll_fn(|_| if self.now.get() >= at { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

impl Addresses for World {
    fn submit(&self, work: Work) {
        match work.action {
            Action::Acquire(_) => {
                let lease = self.lease();
                assert!(matches!(lease, Lease::Until(end) if end > self.now.get()), "{lease:?}");
                self.call(Call::Acquire);
            }
            Action::Release(_) => {
                self.call(Call::Release);
                if self.releases_hang {
                    return;
                }
            }
            Action::CleanUp | Action::Announce(_) | Action::Probe(_) | Action::FenceNode(_) => {}
        }
        self.done.borrow_mut().push_back(work.ticket);
    }

    async fn next(&self) -> AddressEvent {
        poll_fn(|_| match self.done.borrow_mut().pop_front() {
            Some(ticket) => Poll::Ready(AddressEvent::Done { ticket, result: Ok(()) }),
            None => Poll::Pending,
        })
        .await
    }

    fn renew(&self, lease: Lease) {
        if let Lease::Until(end) = self.lease() {
            assert!(self.now.get() < end, "renewed after its end");
        }
        self.call(Call::Renew(lease));
    }
}

impl Storage for World {
    fn save(&self, ticket: u64, _record: Vec<u8>) {
        self.records.borrow_mut().push_back(ticket);
    }

    async fn saved(&self) -> (u64, io::Result<()>) {
        let ticket = poll_fn(|_| match self.records.borrow_mut().pop_front() {
            Some(ticket) => Poll::Ready(ticket),
            None => Poll::Pending,
        })
        .await;
        let result = if self.disk_fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
        (ticket, result)
    }
}

impl Reach for World {
    async fn changed(&self) -> BTreeSet<IpAddr> {
        pending().await
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The first of these nodes, with one VIP.
fn config(nodes: &[&str], partition: Partition) -> NodeConfig {
    let timing = Timing { heartbeat: ms(100), failure_timeout: ms(400), mature: ms(0) };
    let nodes: Vec<NodeDefinition> = (0..)
        .zip(nodes)
        .map(|(i, name)| NodeDefinition {
            name: (*name).into(),
            addresses: vec![([10, 0, 0, i], 4803).into()],
            weight: 1,
            witness: false,
        })
        .collect();
    let address =
        VipAddress { address: [10, 0, 1, 1].into(), prefix: 32, interface: "eth0".into() };
    NodeConfig {
        cluster: "test".into(),
        key: ClusterKey([0; 32]),
        me: nodes[0].id(),
        nodes,
        vips: vec![VipDefinition { vip: Vip::new("v", vec![address]).into(), prefer: vec![] }],
        timing,
        balance: Balance { moves_per_round: None, interval: ms(1_000) },
        multicast: false,
        safety: Safety::new(partition, &timing),
        must_reach: Vec::new(),
    }
}

#[tokio::test]
async fn the_fences_know_the_lease_before_anything_is_acquired_and_as_long_as_it_is_there() {
    let world = World::new();
    assert!(world.run(&["a"], Partition::Component).await.released);

    let calls = world.calls.take();
    let position = |call: Call| calls.iter().position(|&(_, c)| c == call).expect("it was asked");
    let held = &calls[position(Call::Acquire)..position(Call::Release)];
    let renewals = held.iter().filter(|(_, call)| matches!(call, Call::Renew(_))).count();
    assert!(renewals >= 20, "{renewals} times in three seconds");
    assert_eq!(calls.last().expect("calls").1, Call::Renew(Lease::None));
}

#[tokio::test]
async fn who_leaves_without_having_released_says_so_and_the_fences_go_on() {
    let world = World { releases_hang: true, ..World::new() };
    let left = world.run(&["a"], Partition::Component).await;

    assert!(!left.released);
    assert!(world.calls.borrow().iter().any(|(_, call)| *call == Call::Release), "it has tried");
    assert!(matches!(world.lease(), Lease::Until(_)), "{:?}", world.lease());
}

#[tokio::test]
async fn a_command_is_not_carried_out_after_whoever_gave_it_was_told_that_it_failed() {
    for (until, forced) in [(ms(1_000), Forced::TooLate), (ms(1_001), Forced::Done)] {
        let (reply, mut answer) = oneshot::channel();
        let until = Instant::ORIGIN + until;
        let world = World::new();
        world.asked.replace(Some(Command::ForcePrimary { until, reply }));
        world.run(&["a", "b"], Partition::Quorum).await;

        assert_eq!(answer.try_recv(), Ok(forced));
        assert_eq!(world.acquired(), forced == Forced::Done, "{forced:?}");
    }
}

#[tokio::test]
async fn a_vote_that_cannot_be_written_never_counts() {
    for disk_fails in [false, true] {
        let world = World { disk_fails, ..World::new() };
        world.run(&["a"], Partition::Quorum).await;
        assert_eq!(world.acquired(), !disk_fails);
    }
}

#[tokio::test]
async fn a_flood_of_datagrams_keeps_no_heartbeat_waiting() {
    let world = World { flood: Some(ms(10)), ..World::new() };
    world.run(&["a", "b"], Partition::Component).await;

    let sent = world.sent.take();
    assert!(sent.len() > 20);
    for pair in sent.windows(2) {
        assert!(pair[1].since(pair[0]) <= ms(110), "{pair:?}");
    }
}
