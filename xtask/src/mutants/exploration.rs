//! Whether exploration alone finds a mutant: no story that was written for it, no test, only worlds drawn from numbers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::CellAlignment;
use netns_tests::time::Moment;
use serde::Serialize;

use super::catalogue::Mutant;
use super::copy::Copy;
use super::document::Section;
use super::switched::{CHOICE, Switched};
use super::watch::{Ended, watch};
use crate::tables;

/// For how long worlds are drawn with the unbroken copy at most.
const UNBROKEN: Duration = Duration::from_secs(600);
/// What shrinking may take beyond the time for which worlds are drawn.
const SHRINKING: Duration = Duration::from_secs(300);
/// How many worlds the unbroken copy has to survive.
const UNBROKEN_WORLDS: &str = "500";

const SECTION: Section = Section {
    begin: "<!-- begin: written by `cargo xtask mutants --by-exploration --write` -->\n",
    end: "<!-- end of exploration -->",
    header: "| mutant | after | found by | shrunk to |\n|---|---|---|---|\n",
};

/// What became of a mutant.
#[derive(Debug, Serialize)]
pub(super) struct Hunt {
    mutant: String,
    /// Seconds from the first world to a broken promise and a small story of it, or to the end; without the build.
    seconds: u64,
    found: Option<Found>,
    /// Why it could not be tried.
    error: Option<String>,
}

/// A world in which a promise was broken.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Found {
    seed: u64,
    /// Which checker noticed.
    check: String,
    /// Faults that are left in the smallest scenario, and nodes. Nothing if it could not be made smaller in time.
    shrunk: Option<(usize, usize)>,
}

/// What a person takes in at a glance: a story that is larger is kept, and a smaller one looked for in further worlds.
const FAULTS: usize = 6;
const NODES: usize = 5;

impl Found {
    /// Faults and nodes; what could not be made smaller in time is the largest.
    fn size(&self) -> (usize, usize) {
        self.shrunk.unwrap_or((usize::MAX, usize::MAX))
    }

    fn is_small(&self) -> bool {
        let (faults, nodes) = self.size();
        faults <= FAULTS && nodes <= NODES
    }
}

impl Hunt {
    pub(super) fn is_found(&self) -> bool {
        self.found.is_some()
    }

    /// All in one line.
    pub(super) fn line(&self) -> String {
        let [mutant, after, by, shrunk] = self.cells();
        format!("{mutant:<40} {after:>7}  {by:<34} {shrunk}")
    }

    /// Puts it into the document.
    ///
    /// # Errors
    /// As [`Section::put`].
    pub(super) fn write(&self, root: &Path, catalogue: &[Mutant]) -> Result<()> {
        let [mutant, after, by, shrunk] = self.cells();
        let row = format!("| `{mutant}` | {after} | {by} | {shrunk} |");
        SECTION.put(root, catalogue, &mutant, row)
    }

    fn cells(&self) -> [String; 4] {
        let after = format!("{} s", self.seconds);
        let (by, shrunk) = match (&self.found, &self.error) {
            (Some(found), _) => (
                format!("{}, seed {}", found.check, found.seed),
                found.shrunk.map_or_else(String::new, |(faults, nodes)| {
                    format!("{faults} faults, {nodes} nodes")
                }),
            ),
            (None, Some(error)) => (format!("ERROR: {error}"), String::new()),
            (None, None) => ("not found".into(), String::new()),
        };
        [self.mutant.clone(), after, by, shrunk]
    }
}

/// Builds the simulator with all mutants in it that fit into one program, or with the one. Returns where it is.
///
/// # Errors
/// The copy cannot be written, or it does not compile.
pub(super) fn build(copy: &Copy, switched: &Switched) -> Result<PathBuf> {
    copy.switch(switched)?;
    copy.build_simulator()
}

/// The unbroken copy must keep its promises, or nothing follows from what a broken one does.
///
/// # Errors
/// It does not.
pub(super) fn try_unbroken(copy: &Copy, sim: &Path) -> Result<()> {
    let arguments = ["explore", "--seeds", UNBROKEN_WORLDS, "--no-shrink"];
    let mut command = copy.program(sim, ".", arguments, 1);
    match watch(&mut command, UNBROKEN, |_| None)? {
        Ended::Exited(status, _) if status.success() => Ok(()),
        Ended::Exited(_, printed) => bail!("the unbroken copy: {}", printed.join("\n")),
        Ended::Enough(_) | Ended::TooLong => bail!("the unbroken copy takes too long"),
    }
}

/// Explores until a promise is broken in a small story or the time is over. A mutant that is not in the program is built by itself, in
/// its place.
///
/// # Errors
/// The program cannot be started.
pub(super) fn hunt(
    copy: &Copy,
    switched: &Switched,
    sim: &Path,
    prey: &Mutant,
    time: Duration,
) -> Result<Hunt> {
    let mutant = prey.name.clone();
    let hunt = |seconds, found, error| Hunt { mutant: mutant.clone(), seconds, found, error };
    let number = switched.number(&prey.name);
    if number.is_none()
        && let Err(error) = copy.break_with(prey).and_then(|()| copy.build_simulator())
    {
        return Ok(hunt(0, None, Some(format!("{error:#}"))));
    }
    let keep = copy.target.join("explored");
    let keep = keep.to_string_lossy();
    let started = Moment::now();
    let (mut best, mut first): (Option<Found>, u64) = (None, 1);
    loop {
        let left = time.saturating_sub(started.elapsed()).max(Duration::from_secs(1));
        let (until, seeds) = (format!("{}s", left.as_secs()), format!("{first}..{}", u64::MAX));
        let arguments =
            ["explore", "--seeds", &seeds, "--for", &until, "--until-found", "--keep", &*keep];
        let mut command = copy.program(sim, ".", arguments, 1);
        command.envs(number.map(|number| (CHOICE, number.to_string())));
        let ended = watch(&mut command, left + SHRINKING, |_| None)?;
        let another = match ended {
            Ended::Exited(status, _) if status.success() => break,
            Ended::Exited(status, printed) => {
                let error = format!("it ended with {status} and named no seed");
                let Some(found) = found(&printed) else {
                    return Ok(hunt(started.elapsed().as_secs(), best, None).or_error(error));
                };
                found
            }
            Ended::Enough(_) | Ended::TooLong => {
                let seconds = started.elapsed().as_secs();
                return Ok(hunt(seconds, best, None).or_error("it hangs".into()));
            }
        };
        first = another.seed + 1;
        if best.as_ref().is_none_or(|best| another.size() < best.size()) {
            best = Some(another);
        }
        if best.as_ref().is_some_and(Found::is_small) || started.elapsed() >= time {
            break;
        }
    }
    Ok(hunt(started.elapsed().as_secs(), best, None))
}

impl Hunt {
    fn or_error(mut self, error: String) -> Self {
        if self.found.is_none() {
            self.error = Some(error);
        }
        self
    }
}

/// What the exploration printed of the first broken promise.
fn found(printed: &[String]) -> Option<Found> {
    let (seed, check) = printed.iter().find_map(|line| {
        let (seed, rest) = line.strip_prefix("seed ")?.split_once(": ")?;
        let check = rest.split_once(' ')?.1.split_once(": ")?.0;
        Some((seed.parse().ok()?, check.to_owned()))
    })?;
    let shrunk = printed.iter().find_map(|line| {
        let (faults, rest) = line.strip_prefix("shrunk to ")?.split_once(" faults, ")?;
        Some((faults.parse().ok()?, rest.split_once(" nodes")?.0.parse().ok()?))
    });
    Some(Found { seed, check, shrunk })
}

/// What became of all that were tried.
pub(super) fn table(hunts: &[Hunt]) -> String {
    let header = ["mutant", "after", "found by", "shrunk to"];
    let table = tables::table(header, hunts.iter().map(Hunt::cells), 1..=1, CellAlignment::Right);
    let found = hunts.iter().filter(|hunt| hunt.is_found()).count();
    format!("{table}\n{} mutants, {found} found", hunts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_read_from_what_the_exploration_prints() {
        let printed = [
            "6 worlds (component 3, lan 2, quorum 1), 0.1 node-hours simulated in 0 s",
            "seed 2228: 9.311s exclusivity: v1 is answered by a (running) and c (running)",
            "shrunk to 4 faults, 2 nodes and 1 VIPs: v2 is answered by a (running)",
        ];
        let printed = printed.map(str::to_owned);
        let shrunk = |shrunk| Some(Found { seed: 2228, check: "exclusivity".into(), shrunk });

        assert_eq!(found(&printed), shrunk(Some((4, 2))));
        assert_eq!(found(&printed[..2]), shrunk(None));
        assert_eq!(found(&printed[..1]), None);
    }
}
