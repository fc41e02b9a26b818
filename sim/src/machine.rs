//! One machine: what survives its daemon, and how a daemon is started on it. The daemon is the production driver around
//! the production node; only the three traits are simulated.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::{Notify, mpsc, oneshot};
use wackamole::driver::{self, Command, Observation};
use wackamole_protocol::config::NodeConfig;
use wackamole_protocol::id::Incarnation;
use wackamole_protocol::node::Node;
use wackamole_protocol::status::Status;
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;

use crate::addresses::SimAddresses;
use crate::clock::{Oscillator, SimClock, world_time};
use crate::disk::{Platter, SimDisk};
use crate::gate::Gate;
use crate::journal::What;
use crate::network::SimNetwork;
use crate::rng::{Rng, Span};
use crate::segment::{Daemon, SharedSegment};
use wackamole::env::Clock;

/// A machine and the handles on the daemon that runs on it.
pub struct Machine {
    node: usize,
    config: NodeConfig,
    vip_ids: Rc<Vec<VipId>>,
    operation: Span,
    segment: SharedSegment,
    rng: RefCell<Rng>,
    /// The stored counter of starts.
    starts: Cell<u32>,
    /// What is on its disk.
    platter: Platter,
    /// Its clock.
    pub oscillator: Rc<Cell<Oscillator>>,
    /// Closed while the daemon is paused.
    pub gate: Rc<Gate>,
    shutdown: RefCell<Rc<Notify>>,
    commands: RefCell<Option<mpsc::Sender<Command>>>,
    asked: RefCell<Option<oneshot::Receiver<Status>>>,
}

impl Machine {
    /// A machine whose daemon has never run.
    pub fn new(
        node: usize,
        config: NodeConfig,
        operation: Span,
        segment: SharedSegment,
        rng: Rng,
    ) -> Self {
        Self {
            node,
            vip_ids: Rc::new(config.vips.iter().map(|vip| vip.vip.id()).collect()),
            config,
            operation,
            segment,
            rng: RefCell::new(rng),
            starts: Cell::new(0),
            platter: Platter::default(),
            oscillator: Rc::default(),
            gate: Rc::default(),
            shutdown: RefCell::default(),
            commands: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    /// SIGTERM.
    pub fn stop(&self) {
        self.shutdown.borrow().notify_one();
    }

    /// Forgets the daemon that has gone.
    pub fn forget_daemon(&self) {
        self.gate.open();
        self.commands.take();
        self.asked.take();
    }

    /// Asks the daemon for its status; [`Machine::answer`] has it one tick later.
    pub fn ask_status(&self) {
        if self.asked.borrow().is_some() {
            return;
        }
        if let Some(commands) = &*self.commands.borrow() {
            let (reply, answer) = oneshot::channel();
            if commands.try_send(Command::Status(reply)).is_ok() {
                *self.asked.borrow_mut() = Some(answer);
            }
        }
    }

    /// The status that was asked for, once.
    pub fn answer(&self) -> Option<Status> {
        let mut asked = self.asked.borrow_mut();
        let status = asked.as_mut()?.try_recv();
        match status {
            Ok(status) => {
                *asked = None;
                Some(status)
            }
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => {
                *asked = None;
                None
            }
        }
    }

    /// A daemon's whole life; returns after a graceful leave. Called by turmoil at each start of the host.
    ///
    /// # Errors
    /// The socket cannot be opened or the clean-up fails, neither of which the simulated machine does.
    pub async fn daemon(self: Rc<Self>) -> turmoil::Result {
        let segment = Rc::clone(&self.segment);
        let network =
            SimNetwork::bind(self.node, self.config.multicast, Rc::clone(&segment)).await?;
        let clock = SimClock::start(Rc::clone(&self.oscillator));
        let (incarnation, rng) = {
            let mut rng = self.rng.borrow_mut();
            // As the state directory counts: at least the time in seconds.
            let seconds = turmoil::sim_elapsed().unwrap_or_default().as_secs() as u32;
            self.starts.set((self.starts.get() + 1).max(seconds));
            let incarnation = Incarnation::new(self.starts.get(), rng.next() as u32);
            (incarnation, Rng::new(rng.next(), "worker"))
        };
        let mut node = Node::new(self.config.clone(), incarnation, clock.now());
        if let Some(record) = &*self.platter.borrow() {
            node.recall(record).map_err(|error| error.to_string())?;
        }
        let addresses = SimAddresses::new(
            self.node,
            Rc::clone(&segment),
            Rc::clone(&self.vip_ids),
            self.operation,
            rng,
        );
        let disk = SimDisk::new(Rc::clone(&self.platter), Duration::from_millis(1));
        let (sender, mut commands) = mpsc::channel(1);
        *self.commands.borrow_mut() = Some(sender);
        let shutdown = Rc::new(Notify::new());
        *self.shutdown.borrow_mut() = Rc::clone(&shutdown);

        let mut observe = |_, observation: Observation<'_>| {
            let node = self.node;
            let what = match observation {
                Observation::Event(event) => What::Daemon { node, event: event.clone() },
                Observation::NetworkFault { action, error } => {
                    What::NetworkFault { node, text: format!("cannot {action}: {error}") }
                }
            };
            segment.borrow_mut().journal.push(world_time(), what);
        };
        driver::run(
            node,
            &network,
            &clock,
            &addresses,
            &disk,
            &mut commands,
            &mut observe,
            shutdown.notified(),
        )
        .await?;
        let mut segment = self.segment.borrow_mut();
        segment.set_daemon(self.node, Daemon::Ended);
        segment.journal.push(world_time(), What::Ended { node: self.node });
        Ok(())
    }
}
