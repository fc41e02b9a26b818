//! `cargo xtask demo`: the main job before one's eyes.
//!
//! Three real daemons and a client, each in namespaces of its own. Machines fail, daemons are killed and stopped, all
//! come back; a client asks every VIP each millisecond, and what it missed is told at the end. On a terminal the table
//! of holders is redrawn in place, elsewhere it is printed at the end of each step.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::CellAlignment;
use console::{Term, style};
use netns_tests::cluster::{Cluster, SOON};
use netns_tests::plan::{Plan, PlannedVip};
use netns_tests::prober::Prober;
use netns_tests::time::Moment;

use crate::statistics::{Spread, milliseconds};
use crate::tables::table;

/// For how long a step's result stays before a viewer's eyes.
const LOOK: Duration = Duration::from_millis(1200);
/// Pause between two drawings.
const FRAME: Duration = Duration::from_millis(60);

/// Shows the whole story.
pub(crate) fn run() -> Result<()> {
    let mut demo = Demo::start(Screen::new())?;

    demo.step("b loses its power", &["a", "c"], |cluster| cluster.power_off("b"))?;
    demo.step("b has power again", &["a", "b", "c"], |cluster| cluster.power_on("b"))?;
    demo.step("the daemon of c is killed", &["a", "b"], |cluster| cluster.kill_daemon("c"))?;
    demo.step("the daemon of c starts again", &["a", "b", "c"], |cluster| {
        cluster.start_daemon("c")
    })?;
    demo.step("the daemon of a is stopped", &["b", "c"], |cluster| cluster.stop_daemon("a"))?;
    demo.step("the daemon of a starts again", &["a", "b", "c"], |cluster| {
        cluster.start_daemon("a")
    })?;

    demo.screen.say(&demo.report());
    Ok(())
}

fn plan() -> Result<Plan> {
    let gateway = [("10.77.2.1".parse()?, "eth0"), ("fd00:78::2:1".parse()?, "eth1")];
    Ok(Plan {
        segments: 2,
        heartbeat: Duration::from_millis(100),
        failure_timeout: Duration::from_millis(400),
        mature: Duration::from_millis(1000),
        balance_interval: Duration::from_millis(1000),
        ..Plan::new(3).ipv4_vips(10).vip(&gateway, &[])
    })
}

struct Demo {
    cluster: Cluster,
    prober: Prober,
    screen: Screen,
    started: Moment,
    results: Vec<StepResult>,
}

/// What a step did to the VIPs and to the client.
struct StepResult {
    title: String,
    moved: usize,
    missed: Option<Spread>,
    /// The longest time for which two kernels answered for one address.
    overlap: Duration,
}

impl Demo {
    fn start(screen: Screen) -> Result<Self> {
        let started = Moment::now();
        let plan = plan()?;
        screen.say(&format!(
            "{} daemons, {} VIPs, heartbeat {:?}, failure timeout {:?}, and a client that asks each VIP every \
             millisecond",
            plan.machines.len(),
            plan.vips.len(),
            plan.heartbeat,
            plan.failure_timeout,
        ));
        let mut cluster = Cluster::build(plan)?;
        let prober = cluster.probe()?;
        for name in cluster.plan.machines.clone() {
            cluster.start_daemon(&name)?;
        }
        let demo = Self { cluster, prober, screen, started, results: Vec::new() };
        let up = demo.watch("the daemons start", &["a", "b", "c"])?;
        demo.linger(&format!("{up}, the VIPs are spread"))?;
        Ok(demo)
    }

    /// Does something to the cluster, watches how `members` take over, and notes what the client missed.
    fn step(
        &mut self,
        title: &str,
        members: &[&str],
        fault: impl FnOnce(&mut Cluster) -> Result<()>,
    ) -> Result<()> {
        let before = self.holders()?;
        let since = Moment::now();
        fault(&mut self.cluster)?;
        let caption = self.watch(title, members)?;

        let after = self.holders_among(members)?;
        let moved = self.cluster.plan.vips.iter().filter(|vip| {
            let address = vip.addresses[0].0;
            match (before.get(&address), after.get(&address)) {
                (Some(before), Some(after)) => !after.is_subset(before),
                (before, after) => before != after,
            }
        });
        let moved = moved.count();
        let missed = Spread::of(self.prober.interrupted(since).into_values());
        let overlaps = self.cluster.holders.overlaps(&self.cluster.plan.addresses(), since);
        let overlap = overlaps.into_iter().map(|o| o.length).max().unwrap_or_default();
        let result = StepResult { title: title.into(), moved, missed, overlap };
        let caption = format!("{caption}: {}", result.sentence());
        self.results.push(result);
        self.linger(&caption)
    }

    /// Draws until `members` serve everything evenly and every VIP answers. Returns what to say of it.
    fn watch(&self, title: &str, members: &[&str]) -> Result<String> {
        let since = Moment::now();
        loop {
            if self.screen.is_live() {
                self.screen.redraw(&self.picture(title)?);
            }
            let state = self.cluster.settled(members);
            if state.is_ok() && self.prober.all_answer() {
                return Ok(title.to_owned());
            }
            if since.elapsed() > SOON {
                match state {
                    Err(missing) => bail!("{title}, and then nothing: {missing:#}"),
                    Ok(()) => bail!("{title}, and then a VIP does not answer the client"),
                }
            }
            std::thread::sleep(FRAME);
        }
    }

    fn linger(&self, caption: &str) -> Result<()> {
        if !self.screen.is_live() {
            self.screen.say(&self.picture(caption)?);
            return Ok(());
        }
        let since = Moment::now();
        while since.elapsed() < LOOK {
            self.screen.redraw(&self.picture(caption)?);
            std::thread::sleep(FRAME);
        }
        Ok(())
    }

    /// Who holds what, by the kernels' word, and who answers the client.
    fn picture(&self, caption: &str) -> Result<String> {
        let names = self.cluster.names();
        let holdings = self.cluster.holdings(&names)?;
        let rows = self.cluster.plan.vips.iter().map(|vip| {
            let mark = |name: &&str| if holds(&holdings[*name], vip) { "●" } else { "" };
            let mut row = vec![label(vip)];
            row.extend(names.iter().map(mark).map(str::to_owned));
            row.push(self.answers(vip));
            row
        });
        let header = [&["VIP"][..], &names, &["answers"]].concat();
        let table = table(header, rows, 1..=names.len(), CellAlignment::Center);
        let time = self.started.elapsed().as_secs_f64();
        Ok(format!("{time:5.1} s  {}\n{table}", style(caption).bold()))
    }

    fn answers(&self, vip: &PlannedVip) -> String {
        let machines: BTreeSet<_> = vip
            .addresses
            .iter()
            .map(|&(address, _)| {
                let mac = self.prober.answered_by(address);
                mac.and_then(|mac| self.cluster.machine_with(mac)).unwrap_or("-")
            })
            .collect();
        machines.into_iter().collect::<Vec<_>>().join(" ")
    }

    fn holders(&self) -> Result<BTreeMap<IpAddr, BTreeSet<String>>> {
        self.holders_among(&self.cluster.names())
    }

    fn holders_among(&self, among: &[&str]) -> Result<BTreeMap<IpAddr, BTreeSet<String>>> {
        let mut holders = BTreeMap::<_, BTreeSet<_>>::new();
        for (name, held) in self.cluster.holdings(among)? {
            for address in held {
                holders.entry(address).or_default().insert(name.clone());
            }
        }
        Ok(holders)
    }

    fn report(&self) -> String {
        let rows = self.results.iter().map(|result| {
            let missed = |pick: fn(Spread) -> Duration| {
                result.missed.map_or_else(|| "nothing".to_owned(), |s| milliseconds(pick(s)))
            };
            [
                result.title.clone(),
                result.moved.to_string(),
                missed(|spread| spread.median),
                missed(|spread| spread.max),
                if result.overlap.is_zero() { "no".into() } else { milliseconds(result.overlap) },
            ]
        });
        let header =
            ["what happened", "VIPs moved", "client missed (median)", "(max)", "two holders"];
        let table = table(header, rows, 1..=4, CellAlignment::Right);
        let time = self.started.elapsed().as_secs_f64();
        format!("{table}\n{time:.1} s")
    }
}

impl StepResult {
    fn sentence(&self) -> String {
        match self.missed {
            Some(spread) => format!(
                "{} VIPs moved, the client missed one for at most {}",
                self.moved,
                milliseconds(spread.max)
            ),
            None => format!("{} VIPs moved, the client missed nothing", self.moved),
        }
    }
}

/// Where the demo is shown.
struct Screen {
    term: Term,
    /// Lines of the picture that the next one replaces.
    drawn: Cell<usize>,
}

impl Screen {
    fn new() -> Self {
        Self { term: Term::stdout(), drawn: Cell::new(0) }
    }

    fn is_live(&self) -> bool {
        self.term.is_term()
    }

    fn say(&self, text: &str) {
        // A reader that went away does not stop the demo.
        let _ = self.term.write_line(text);
        self.drawn.set(0);
    }

    /// Replaces the picture line by line, because clearing it first would flicker.
    fn redraw(&self, text: &str) {
        let _ = self.term.move_cursor_up(self.drawn.get());
        for line in text.lines() {
            let _ = self.term.clear_line();
            let _ = self.term.write_line(line);
        }
        self.drawn.set(text.lines().count());
    }
}

fn label(vip: &PlannedVip) -> String {
    let addresses: Vec<_> = vip.addresses.iter().map(|(address, _)| address.to_string()).collect();
    addresses.join(" + ")
}

fn holds(held: &BTreeSet<IpAddr>, vip: &PlannedVip) -> bool {
    vip.addresses.iter().all(|(address, _)| held.contains(address))
}
