//! One machine: what survives its daemon, and how a daemon is started on it. The daemon is the production driver around
//! the production node; only the three traits are simulated.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};
use wackamole::driver::{self, Command, Observation};
use wackamole::io::store::next_counter;
use wackamole_protocol::config::NodeConfig;
use wackamole_protocol::id::{Incarnation, NodeId};
use wackamole_protocol::names::Names;
use wackamole_protocol::node::Node;
use wackamole_protocol::status::Status;
use wackamole_protocol::time::Duration;
use wackamole_protocol::vip::VipId;
use wackamole_protocol::wire::Codec;
use wackamole_protocol::wire::message::{Body, Header, Leave};

use crate::addresses::{Pace, SimAddresses};
use crate::bell::Bell;
use crate::clock::{Oscillator, SimClock};
use crate::conduct::{Breach, Conduct};
use crate::disk::{Platter, SimDisk};
use crate::engine::{Ended, Host};
use crate::gate::Gate;
use crate::journal::What;
use crate::links::Station;
use crate::network::SimNetwork;
use crate::reach::SimReach;
use crate::rng::{Rng, Span};
use crate::segment::{Daemon, SharedSegment};
use wackamole::env::Clock;
use wackamole::record::{self, Recorder};

/// The sequence number of the first datagram that a guardian sends: higher than any that its daemon can have sent.
const GUARDIAN_SEQUENCE: u64 = 1 << 62;
/// A daemon that turns more often without any time passing would go on for ever.
const TURNS_MAX: u32 = 100_000;
/// How often it says the same, because a datagram may be lost.
const GUARDIAN_REPEATS: u64 = 3;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// How long address work takes.
    pub pace: Pace,
    /// How long its disk takes to make a record safe.
    pub sync: Span,
    /// Which station has to answer it, if any.
    pub witness: Option<Station>,
    /// Who watches what daemons do.
    pub conduct: Conduct,
}

/// A machine and the handles on the daemon that runs on it.
pub struct Machine {
    node: usize,
    config: NodeConfig,
    names: Names,
    vip_ids: Rc<Vec<VipId>>,
    parts: Parts,
    segment: SharedSegment,
    rng: RefCell<Rng>,
    /// The stored counter of starts.
    starts: Cell<Option<u32>>,
    /// The highest that it ever was: nobody loses two disks within the minute that a blank one is ahead of the calendar, so
    /// neither does the simulator.
    highest_start: Cell<u32>,
    /// The daemon that was started last.
    incarnation: Cell<Option<Incarnation>>,
    /// What is on its disk.
    platter: Platter,
    /// Its clock.
    pub oscillator: Rc<Cell<Oscillator>>,
    /// Closed while the daemon is paused.
    pub gate: Rc<Gate>,
    shutdown: RefCell<Rc<Bell>>,
    commands: RefCell<Option<mpsc::Sender<Command>>>,
    asked: RefCell<Option<oneshot::Receiver<Status>>>,
}

impl Machine {
    /// A machine whose daemon has never run.
    pub fn new(
        node: usize,
        config: NodeConfig,
        parts: Parts,
        segment: SharedSegment,
        rng: Rng,
    ) -> Self {
        Self {
            node,
            vip_ids: Rc::new(config.vips.iter().map(|vip| vip.vip.id()).collect()),
            names: Names::new(
                config.nodes.iter().map(|node| &*node.name),
                config.vips.iter().map(|vip| &*vip.vip),
            ),
            config,
            parts,
            segment,
            rng: RefCell::new(rng),
            starts: Cell::new(Some(0)),
            highest_start: Cell::new(0),
            incarnation: Cell::new(None),
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
        self.shutdown.borrow().ring();
    }

    /// Forgets the daemon that has gone without a word.
    pub fn forget_daemon(&self) {
        self.gate.open();
        self.platter.crash(&mut self.rng.borrow_mut());
        self.commands.take();
        self.asked.take();
    }

    /// The disk is replaced by a blank one, and the counter of starts is lost with it.
    pub fn lose_disk(&self) {
        self.platter.blank();
        self.starts.set(None);
        self.parts.conduct.lost_its_disk(self.node);
    }

    /// What the guardian tells the peers when it has removed everything: that the daemon has left.
    pub fn leaves(&self) -> Vec<Vec<u8>> {
        let Some(incarnation) = self.incarnation.get() else { return Vec::new() };
        let codec = Codec::new(&self.config.key, &self.config.cluster);
        let body = Body::Leave(Leave { incarnation });
        let leave = |repeat| {
            let header = Header {
                from: self.config.me,
                to: NodeId::EVERYBODY,
                incarnation,
                sequence: GUARDIAN_SEQUENCE + repeat,
            };
            codec.seal(&header, &body)
        };
        (0..GUARDIAN_REPEATS).map(leave).collect()
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

    /// It has been asked, and has not answered yet.
    pub fn is_asked(&self) -> bool {
        self.asked.borrow().is_some()
    }

    /// `wackamole force-primary`.
    pub fn force_primary(&self) {
        if let Some(commands) = &*self.commands.borrow() {
            let (reply, _) = oneshot::channel();
            let until = wackamole_protocol::time::Instant::FAR_FUTURE; // this operator waits
            // A daemon that has not answered the last command yet gets no other, as on its socket.
            let _ = commands.try_send(Command::ForcePrimary { until, reply });
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

    /// Tells of a rule that the daemon has broken.
    fn tell(&self, breach: Option<Breach>, at: Duration) {
        if let Some(breach) = breach {
            let (check, text) = ("conduct", breach.text(self.config.me, &self.names));
            self.segment.borrow_mut().journal.push(at, What::Violation { check, text });
        }
    }

    /// A daemon's whole life; returns after a graceful leave. Called by the engine at each start of the machine.
    ///
    /// # Errors
    /// The socket cannot be opened, the clean-up fails or the stored record is damaged, none of which happens on a
    /// simulated machine.
    pub async fn daemon(self: Rc<Self>, host: Host) -> Ended {
        let segment = Rc::clone(&self.segment);
        let network =
            SimNetwork::bind(&host, self.node, self.config.multicast, Rc::clone(&segment)).await?;
        let time = host.time();
        let clock = SimClock::new(time.clone(), Rc::clone(&self.oscillator));
        let first_question; // the witness is asked out of step with the heartbeats
        let (incarnation, rng, disk_rng) = {
            let mut rng = self.rng.borrow_mut();
            let seconds = time.now().as_secs() as u32;
            let counter = next_counter(self.starts.get(), seconds).unwrap_or(u32::MAX);
            let counter = counter.max(self.highest_start.get() + 1);
            self.highest_start.set(counter);
            self.starts.set(Some(counter));
            let nonce = rng.next() as u32;
            first_question = self.config.timing.heartbeat * (nonce % 1024) / 1024;
            let incarnation = Incarnation::new(counter, nonce);
            (incarnation, Rng::new(rng.next(), "worker"), Rng::new(rng.next(), "disk"))
        };
        self.incarnation.set(Some(incarnation));
        let started = clock.now();
        let votes = self.platter.read();
        let mut recorder = segment.borrow().journal.records.clone().map(|records| {
            let header =
                record::Header::new(&self.config, incarnation, votes.clone(), started, time.now());
            let time = time.clone();
            Recorder::start(&header, move || time.now(), records.begin())
        });
        let breach = self.parts.conduct.started(self.node, &self.config, votes.as_deref(), started);
        self.tell(breach, time.now());
        let mut node = Node::new(self.config.clone(), incarnation, started);
        if let Some(votes) = votes {
            node.recall(&votes)?;
        }
        let addresses = SimAddresses::new(
            time.clone(),
            self.node,
            Rc::clone(&segment),
            Rc::clone(&self.vip_ids),
            self.parts.pace.clone(),
            rng,
        );
        let disk = SimDisk::new(time.clone(), self.platter.clone(), self.parts.sync, disk_rng);
        let reach = SimReach::new(
            self.node,
            self.parts.witness,
            Rc::clone(&segment),
            SimClock::new(time.clone(), Rc::clone(&self.oscillator)),
            &self.config.timing,
            first_question,
        );
        let (sender, mut commands) = mpsc::channel(1);
        *self.commands.borrow_mut() = Some(sender);
        let shutdown = Rc::new(Bell::default());
        *self.shutdown.borrow_mut() = Rc::clone(&shutdown);

        let mut turns = (time.now(), 0_u32);
        let mut observe = |now, observation: Observation<'_>| {
            if matches!(observation, Observation::Turn) {
                turns =
                    if turns.0 == time.now() { (turns.0, turns.1 + 1) } else { (time.now(), 0) };
                assert!(
                    turns.1 < TURNS_MAX,
                    "{}: {TURNS_MAX} turns in no time: it has a deadline that nothing meets",
                    self.names.node(self.config.me)
                );
            }
            if let Some(recorder) = &mut recorder {
                recorder.observe(now, &observation);
            }
            let node = self.node;
            self.tell(self.parts.conduct.observe(self.node, now, &observation), time.now());
            let what = match observation {
                Observation::Event(event) => What::Daemon { node, event: event.clone() },
                Observation::NetworkFault { action, error } => {
                    What::NetworkFault { node, text: format!("cannot {action}: {error}") }
                }
                Observation::Turn
                | Observation::Input(_)
                | Observation::Effect(_)
                | Observation::Rest => return,
            };
            segment.borrow_mut().journal.push(time.now(), what);
        };
        driver::run(
            node,
            &network,
            &clock,
            &addresses,
            &disk,
            &reach,
            &mut commands,
            &mut observe,
            shutdown.heard(),
        )
        .await?;
        if let Some(recorder) = recorder {
            recorder.finish();
        }
        let mut segment = self.segment.borrow_mut();
        segment.set_daemon(self.node, Daemon::Ended);
        segment.fences.daemon_gone(self.node);
        segment.journal.push(time.now(), What::Ended { node: self.node });
        Ok(())
    }
}
