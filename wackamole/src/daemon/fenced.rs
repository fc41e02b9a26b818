//! This machine's addresses with everything that stands behind them: the kernel's own fences, the guardian, and the
//! operator's fence command.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wackamole_protocol::config::NodeDefinition;
use wackamole_protocol::time::{Duration, Instant};
use wackamole_protocol::vip::VipId;

use super::fence_command::FenceCommand;
use crate::config::Config;
use crate::env::{Action, AddressError, AddressEvent, Addresses, Clock as _, Lease, Work};
use crate::guardian::{Farewell, Guarded, Orders, Patience, Program, Standing, StartError};
use crate::io::addresses::NetlinkAddresses;
use crate::io::clock::BootClock;
use crate::io::gate;

/// Bounds of how often the guardian shows a sign of life.
const PULSE_SHORTEST: Duration = Duration::from_millis(20);
const PULSE_LONGEST: Duration = Duration::from_millis(500);
/// Bounds of how long the guardian waits for a sign of life past the end of a lease. A busy machine may take the shortest to
/// wake a process up.
const SILENCE_SHORTEST: Duration = Duration::from_millis(2);
const SILENCE_LONGEST: Duration = Duration::from_millis(50);
/// How long a release that has begun may take before the guardian kills the daemon: the least, and for each address. The
/// kernel takes up to 0.3 ms for one.
const RELEASE_LEAST: Duration = Duration::from_millis(50);
const RELEASE_EACH: Duration = Duration::from_micros(500);

/// What a guardian needs to know of its daemon.
pub(super) struct Support<'a> {
    pub(super) config: &'a Config,
    pub(super) me: &'a NodeDefinition,
    /// A gate stands.
    pub(super) gated: bool,
    /// What it may remove.
    pub(super) may_clean_up: &'a BTreeSet<IpAddr>,
    /// What it tells the peers.
    pub(super) farewell: Farewell,
    /// How it is started.
    pub(super) program: Program,
}

/// [`NetlinkAddresses`] that acquires nothing without a guardian.
#[derive(Debug)]
pub(super) struct FencedAddresses {
    netlink: NetlinkAddresses,
    guarded: RefCell<Guarded>,
    /// Why no guardian stands, if none does.
    fallen: RefCell<Option<String>>,
    vips: Vec<VipId>,
    /// What the kernel's side has against VIPs, which counts again when there is a guardian again.
    against: RefCell<BTreeMap<VipId, String>>,
    fence_command: Option<FenceCommand>,
    /// What happened here and not in the kernel.
    own: RefCell<UnboundedReceiver<AddressEvent>>,
    tell: UnboundedSender<AddressEvent>,
    clock: BootClock,
    /// Past the lease a sign of life is due then.
    life_due: Cell<Option<Instant>>,
    /// Pause between two of them.
    pace: Duration,
}

impl FencedAddresses {
    /// Starts a guardian and waits until it stands. Must be called on a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// No guardian stands.
    pub(super) fn start(
        netlink: NetlinkAddresses,
        support: Support<'_>,
    ) -> Result<Self, StartError> {
        let Support { config, me, gated, may_clean_up, farewell, program } = support;
        let clock = BootClock::new()
            .map_err(|source| StartError::System { doing: "open a timer", source })?;
        let state_dir = std::path::absolute(config.state_dir())
            .map_err(|source| StartError::System { doing: "find the state directory", source })?;
        let patience = patience(config, gated);
        let orders = Orders {
            daemon: std::process::id(),
            node: me.name.clone(),
            state_dir,
            gate: gated.then(|| gate::table_name(config.cluster())),
            may_clean_up: may_clean_up.clone(),
            patience,
            pulse: (config.timing().failure_timeout / 2).clamp(PULSE_SHORTEST, PULSE_LONGEST),
            farewell,
        };
        let guarded = Guarded::start(program, &orders)?;
        let (tell, own) = unbounded_channel();
        Ok(Self {
            netlink,
            guarded: RefCell::new(guarded),
            fallen: RefCell::new(None),
            vips: config.vips().iter().map(|vip| vip.vip.id()).collect(),
            against: RefCell::new(BTreeMap::new()),
            fence_command: fence_command(config, me),
            own: RefCell::new(own),
            tell,
            clock,
            life_due: Cell::new(None),
            pace: patience.silence / 4,
        })
    }

    /// Nothing is held any more, and the peers know: sends the guardian away and waits for its end.
    pub(super) fn end(self) {
        self.guarded.into_inner().dismiss();
    }

    fn tell(&self, event: AddressEvent) {
        // The receiver lives as long as we do.
        let _ = self.tell.send(event);
    }

    fn fence(&self, ticket: u64, node: String) {
        let done = |result| AddressEvent::Done { ticket, result };
        let Some(command) = self.fence_command.clone() else {
            return self.tell(done(Ok(())));
        };
        let tell = self.tell.clone();
        let started = std::thread::Builder::new().name("fence command".into()).spawn(move || {
            tracing::warn!(%node, command = command.words.join(" "), "running the fence command");
            let result = command.run(&node);
            match &result {
                Ok(()) => tracing::info!(%node, "the fence command has succeeded"),
                Err(error) => tracing::error!("{error}"),
            }
            // If the daemon ends meanwhile nobody wants to know.
            let _ = tell.send(AddressEvent::Done { ticket, result });
        });
        if let Err(error) = started {
            let error = format!("cannot start a thread for the fence command: {error}");
            self.tell(done(Err(AddressError::Other(error))));
        }
    }

    /// Past the end of a lease the guardian wants to see that this loop runs.
    async fn show_life(&self) -> Infallible {
        loop {
            let Some(due) = self.life_due.get() else { return std::future::pending().await };
            self.clock.sleep_until(due).await;
            let now = self.clock.now();
            self.guarded.borrow().show_life(now);
            self.life_due.set(Some(now + self.pace));
        }
    }

    async fn standing(&self) -> AddressEvent {
        let standing =
            std::future::poll_fn(|context| self.guarded.borrow_mut().poll_standing(context)).await;
        let why_not = match standing {
            Standing::Fallen(why) => Some(format!("no guardian stands behind this daemon: {why}")),
            Standing::Restored => None,
        };
        self.fallen.replace(why_not.clone());
        let mut vips = self.vips.clone();
        if why_not.is_none() {
            let against = self.against.borrow();
            vips.retain(|vip| !against.contains_key(vip));
            for (vip, why_not) in against.iter() {
                let (vips, why_not) = (vec![*vip], Some(why_not.clone()));
                self.tell(AddressEvent::Servable { vips, why_not });
            }
        }
        AddressEvent::Servable { vips, why_not }
    }

    /// What the kernel's side says, but for what makes no difference while there is no guardian.
    async fn netlink(&self) -> AddressEvent {
        loop {
            let event = self.netlink.next().await;
            if let AddressEvent::Servable { vips, why_not } = &event {
                let mut against = self.against.borrow_mut();
                for vip in vips {
                    match why_not {
                        Some(why_not) => against.insert(*vip, why_not.clone()),
                        None => against.remove(vip),
                    };
                }
                if self.fallen.borrow().is_some() {
                    continue;
                }
            }
            return event;
        }
    }

    async fn own(&self) -> AddressEvent {
        std::future::poll_fn(|context| self.own.borrow_mut().poll_recv(context))
            .await
            .expect("we have a sender ourselves")
    }
}

/// How long the guardian waits past the end of a lease.
fn patience(config: &Config, gated: bool) -> Patience {
    let margin = config.safety().release_margin;
    let silence = match gated {
        // The gate has shut by itself: there is no hurry.
        true => config.timing().failure_timeout / 8,
        // Of the time that a release may take the guardian needs the larger part itself.
        false => margin / 4,
    };
    let addresses: usize = config.vips().iter().map(|vip| vip.vip.addresses().len()).sum();
    Patience {
        silence: silence.clamp(SILENCE_SHORTEST, SILENCE_LONGEST),
        release: margin.max(RELEASE_LEAST)
            + RELEASE_EACH * u32::try_from(addresses).unwrap_or(u32::MAX),
    }
}

fn fence_command(config: &Config, me: &NodeDefinition) -> Option<FenceCommand> {
    let fence = config.fence();
    (!fence.command.is_empty()).then(|| FenceCommand {
        words: fence.command.clone(),
        timeout: fence.command_timeout,
        cluster: config.cluster().to_owned(),
        me: me.name.clone(),
    })
}

impl Addresses for FencedAddresses {
    fn submit(&self, work: Work) {
        match work.action {
            Action::FenceNode(node) => self.fence(work.ticket, node),
            Action::Acquire(_) if self.fallen.borrow().is_some() => {
                let why = self.fallen.borrow().clone().unwrap_or_default();
                let result = Err(AddressError::Other(why));
                self.tell(AddressEvent::Done { ticket: work.ticket, result });
            }
            _ => self.netlink.submit(work),
        }
    }

    async fn next(&self) -> AddressEvent {
        tokio::select! { biased;
            never = self.show_life() => match never {},
            event = self.standing() => event,
            event = self.own() => event,
            event = self.netlink() => event,
        }
    }

    fn renew(&self, lease: Lease) {
        self.guarded.borrow().renew(lease);
        self.life_due.set(match lease {
            Lease::None => None,
            Lease::Until(until) => Some(until),
        });
        self.netlink.renew(lease);
    }
}
