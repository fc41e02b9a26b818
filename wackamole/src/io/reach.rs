//! Asks addresses whether they answer: `must_reach`, the witness that can disqualify (docs/protocol.md, "Votes").
//!
//! One echo request to each address in each heartbeat. An answer counts for as long as [`Timing::silence`] says: if this machine
//! is cut off from everybody at once, it knows that nobody answers before it gives up the first member.
//!
//! Raw sockets, which the daemon's capabilities allow (docs/systemd.md), because unprivileged ones depend on
//! `net.ipv4.ping_group_range`. Each is connected, so that the kernel hands over what comes from that address only.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wackamole_protocol::config::Timing;
use wackamole_protocol::time::{Duration, Instant};

use super::clock::BootClock;
use super::echo::{Echo, Nonce};
use crate::env::{Clock as _, Reach};

/// Messages taken from one socket before anything else is looked at.
const MESSAGES_PER_TURN: usize = 32;
/// Longer than any reply to us with the longest IPv4 header; the rest of a longer message is cut off, and it is none.
const BUFFER: usize = 128;

/// Asks for the daemon. Works only while somebody waits in [`Reach::changed`].
#[derive(Debug)]
pub struct EchoReach {
    clock: BootClock,
    heartbeat: Duration,
    /// For so long an answer counts.
    patience: Duration,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    targets: Vec<Target>,
    ask_at: Instant,
    told: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Target {
    address: IpAddr,
    line: Option<Line>,
    answered_at: Option<Instant>,
    /// The last fault that was told.
    fault: Option<io::ErrorKind>,
}

/// A socket and what was asked over it.
#[derive(Debug)]
struct Line {
    socket: AsyncFd<Socket>,
    since: Instant,
    next: Echo,
    /// Sequence numbers of requests that may yet be answered, and when they were sent.
    asked: VecDeque<(u16, Instant)>,
}

impl EchoReach {
    /// Asks these, once a heartbeat. Must be called on a tokio runtime with IO enabled, and used on that runtime only.
    ///
    /// # Errors
    /// No timer can be opened. A socket that cannot be is told to the log, and tried again.
    pub fn new(addresses: &[IpAddr], timing: &Timing) -> io::Result<Self> {
        let target = |&address| Target { address, line: None, answered_at: None, fault: None };
        let targets = addresses.iter().map(target).collect();
        Ok(Self {
            clock: BootClock::new()?,
            heartbeat: timing.heartbeat,
            patience: timing.silence(),
            state: RefCell::new(State { targets, ask_at: Instant::ORIGIN, told: BTreeSet::new() }),
        })
    }

    /// Asks if it is time to, and returns until when there is nothing to do.
    fn turn(&self, now: Instant) -> Instant {
        let State { targets, ask_at, .. } = &mut *self.state.borrow_mut();
        if now >= *ask_at {
            for target in targets.iter_mut() {
                target.ask(now, self.patience);
            }
            *ask_at = now + self.heartbeat;
        }
        let ends = targets.iter().filter_map(|target| target.answered_at);
        ends.map(|at| at + self.patience).fold(*ask_at, Instant::min)
    }

    fn answering(&self, now: Instant) -> BTreeSet<IpAddr> {
        let targets = &mut self.state.borrow_mut().targets;
        let answers =
            |target: &mut Target| target.answers(now, self.patience).then_some(target.address);
        targets.iter_mut().filter_map(answers).collect()
    }

    /// Ready when anything has come in.
    fn poll_answers(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut any = Poll::Pending;
        let now = self.clock.now();
        for target in &mut self.state.borrow_mut().targets {
            if target.poll_answers(context, now, self.patience).is_ready() {
                any = Poll::Ready(());
            }
        }
        any
    }
}

impl Reach for EchoReach {
    async fn changed(&self) -> BTreeSet<IpAddr> {
        if self.state.borrow().targets.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let now = self.clock.now();
            let answering = self.answering(now);
            let next = self.turn(now);
            if answering != self.state.borrow().told {
                self.state.borrow_mut().told.clone_from(&answering);
                return answering;
            }
            tokio::select! { biased;
                () = std::future::poll_fn(|context| self.poll_answers(context)) => {}
                () = self.clock.sleep_until(next) => {}
            }
        }
    }
}

impl Target {
    fn answers(&mut self, now: Instant, patience: Duration) -> bool {
        if self.answered_at.is_some_and(|at| now >= at + patience) {
            self.answered_at = None;
            // If this process did not run for a while, an answer lies there of which tokio knows nothing yet.
            if let Some(line) = &mut self.line
                && (0..MESSAGES_PER_TURN)
                    .map_while(|_| line.read(self.address, now, patience).ok())
                    .any(|answered| answered)
            {
                self.answered_at = Some(now);
            }
        }
        self.answered_at.is_some()
    }

    fn ask(&mut self, now: Instant, patience: Duration) {
        // A socket keeps the source address that the route had when it was connected. While nobody answers, that may be why.
        let stale = |line: &Line| now >= line.since + patience;
        if self.answered_at.is_none() && self.line.as_ref().is_some_and(stale) {
            self.line = None;
        }
        self.fault = match self.try_to_ask(now, patience) {
            Ok(()) => None,
            Err(error) => {
                self.line = None;
                if self.fault != Some(error.kind()) {
                    tracing::warn!(address = %self.address, %error, "cannot ask an address of must_reach");
                }
                Some(error.kind())
            }
        };
    }

    fn try_to_ask(&mut self, now: Instant, patience: Duration) -> io::Result<()> {
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::open(self.address, now)?),
        };
        line.asked.retain(|&(_, at)| now < at + patience);
        line.asked.push_back((line.next.sequence, now));
        let request = line.next.request(self.address);
        line.next.sequence = line.next.sequence.wrapping_add(1);
        match line.socket.get_ref().send(&request) {
            // A full socket buffer is a lost request.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn poll_answers(
        &mut self,
        context: &mut Context<'_>,
        now: Instant,
        patience: Duration,
    ) -> Poll<()> {
        let Some(line) = &mut self.line else { return Poll::Pending };
        for _ in 0..MESSAGES_PER_TURN {
            let Poll::Ready(Ok(mut guard)) = line.socket.poll_read_ready(context) else {
                return Poll::Pending;
            };
            match guard.try_io(|socket| read(socket.get_ref())) {
                Ok(Ok(message)) if line.takes(self.address, &message, now, patience) => {
                    self.answered_at = Some(now);
                    return Poll::Ready(());
                }
                // Something else; or nothing more is there; or what ICMP says about a request, which silence tells as well.
                Ok(_) | Err(_) => {}
            }
        }
        // Others talk to us from there, a lot: first the rest of the daemon.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A message that is there, or `WouldBlock`.
fn read(mut socket: &Socket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; BUFFER];
    let length = socket.read(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

impl Line {
    fn open(address: IpAddr, now: Instant) -> io::Result<Self> {
        let to = SocketAddr::new(address, 0);
        let protocol = if address.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.connect(&to.into())?;
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let [a, b, rest @ ..] = random;
        let nonce: Nonce = rest;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe only for types whose descriptor may change; this one's never does"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self {
            socket,
            since: now,
            next: Echo { identifier: u16::from_be_bytes([a, b]), sequence: 0, nonce },
            asked: VecDeque::new(),
        })
    }

    /// Takes a message that is there, and returns whether it is an answer.
    fn read(&mut self, from: IpAddr, now: Instant, patience: Duration) -> io::Result<bool> {
        let message = read(self.socket.get_ref())?;
        Ok(self.takes(from, &message, now, patience))
    }

    /// Whether it answers a request of late; once each.
    fn takes(&mut self, from: IpAddr, message: &[u8], now: Instant, patience: Duration) -> bool {
        let Some(reply) = Echo::reply(from, message) else { return false };
        let ours = (reply.identifier, reply.nonce) == (self.next.identifier, self.next.nonce);
        let asked =
            |&(sequence, at): &(u16, Instant)| sequence == reply.sequence && now < at + patience;
        match self.asked.iter().position(asked) {
            Some(position) if ours => self.asked.remove(position).is_some(),
            _ => false,
        }
    }
}
