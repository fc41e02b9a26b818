//! A run in plain language: what was broken first, when, who held what, until when whose lease ran, and what had happened
//! before. For a run that kept its promises: the faults, the longest time that a client was without an answer and why, and
//! how often VIPs moved.
//!
//! Everything is read off the [`Story`], nothing of the simulator's world, so that recorded events get the same account.
//! Causes are what the record shows: states, leases, links and views at that moment, and the faults that touched those
//! concerned before. Where it shows none, the account says so.

mod dark;
mod facts;
mod overlap;
mod text;

pub use text::text;

use crate::story::{Account, Chapter, Mark, Micros, Sentence, Story};
use facts::{Facts, mentions};

/// How many broken promises are quoted.
const QUOTED_MAX: usize = 5;
/// How many faults of a good run are listed.
const FAULTS_MAX: usize = 12;
/// How many events before a broken promise are quoted.
const EVENTS_MAX: usize = 14;

/// What an account is about.
struct Matter {
    at: Micros,
    /// How long it lasted, if it did.
    lasted: Micros,
    headline: String,
    /// Whom it concerns; everybody if nobody.
    nodes: Vec<usize>,
    vip: Option<usize>,
    why: Vec<Sentence>,
}

/// Tells a story in plain language.
pub fn account(story: &Story) -> Account {
    let facts = Facts { story };
    let broken: Vec<&Mark> = story.marks.iter().filter(|mark| mark.broken).collect();
    match broken.first() {
        Some(first) => failed(&facts, first, &broken),
        None => kept(&facts),
    }
}

fn failed(facts: &Facts<'_>, first: &Mark, broken: &[&Mark]) -> Account {
    let matter = matter(facts, first);
    let mut chapters = Vec::new();
    let mut quoted: Vec<Sentence> = broken
        .iter()
        .take(QUOTED_MAX)
        .map(|mark| Sentence { at: Some(mark.at), text: mark.text.clone() })
        .collect();
    if let Some(more) = broken.len().checked_sub(QUOTED_MAX).filter(|more| *more > 0) {
        quoted.push(Sentence { at: None, text: format!("… and {more} more") });
    }
    chapters.push(chapter("What was broken", quoted));
    chapters.push(chapter("Why", matter.why));
    chapters.push(chapter("Faults before it", facts.faults_before(matter.at, &matter.nodes)));
    chapters.push(chapter(
        "What led to it",
        facts.events_before(matter.at, &matter.nodes, matter.vip, EVENTS_MAX),
    ));
    chapters.push(moves(facts));
    chapters.retain(|chapter| !chapter.lines.is_empty());
    Account {
        broken: broken.len(),
        headline: matter.headline,
        at: Some(matter.at),
        chapters,
        standings: facts.standings(matter.at),
    }
}

/// What the first broken promise comes down to.
fn matter(facts: &Facts<'_>, first: &Mark) -> Matter {
    let check = first.text.split(':').next().unwrap_or_default();
    let about = |name: &str| mentions(&first.text, name);
    let vip = facts.story.vips.iter().position(|vip| about(&vip.name));
    let found = match check {
        "exclusivity" => overlap::named(facts, first, vip),
        "interruption_max" | "covered_within" => dark::named(facts, first, vip),
        "coverage" => vip.map(|vip| dark::uncovered(facts, first.at, vip)),
        "overlap_max" => overlap::longest(facts),
        _ => None,
    };
    found.unwrap_or_else(|| {
        let nodes = facts.named(&first.text);
        Matter {
            at: first.at,
            lasted: 0,
            headline: format!("At {} a promise was broken: {}.", time(first.at), first.text),
            why: facts.nothing_known(first.at, &nodes),
            nodes,
            vip,
        }
    })
}

fn kept(facts: &Facts<'_>) -> Account {
    let story = facts.story;
    let faults = facts.faults();
    let worst = dark::worst(facts);
    let overlap = overlap::longest(facts);
    let count = match faults.len() {
        0 => "Nothing was done to the world".to_owned(),
        1 => "One fault".to_owned(),
        many => format!("{many} faults"),
    };
    let dark = match &worst {
        Some(worst) => format!(" The longest time without an answer: {}", worst.headline),
        None if story.clients.is_empty() => String::new(),
        None => " No client was ever without an answer.".to_owned(),
    };
    let moved = match facts.moves().len() {
        0 => "no VIP changed machines".to_owned(),
        1 => "one VIP changed machines".to_owned(),
        many => format!("VIPs changed machines {many} times"),
    };
    let mut chapters = vec![chapter("Faults", listed(&faults))];
    if let Some(worst) = &worst {
        chapters.push(chapter("The longest time without an answer", worst.why.clone()));
    }
    let mut allowed = Vec::new();
    if let Some(overlap) = &overlap {
        allowed.push(Sentence { at: Some(overlap.at), text: overlap.headline.clone() });
        allowed.extend(overlap.why.iter().cloned());
    }
    chapters.push(chapter("The longest overlap, which was allowed", allowed));
    chapters.push(moves(facts));
    chapters.retain(|chapter| !chapter.lines.is_empty());
    let both = overlap.as_ref().map_or_else(String::new, |overlap| {
        format!(
            " Two machines answered for one VIP for at most {}, as allowed.",
            length(overlap.lasted)
        )
    });
    // What lasted longer is what a reader wants to see first.
    let about = worst.into_iter().chain(overlap).max_by_key(|matter| matter.lasted);
    let at = about.map(|matter| matter.at);
    Account {
        broken: 0,
        headline: format!("Every promise was kept. {count}; {moved}.{both}{dark}"),
        at,
        chapters,
        standings: at.map_or_else(Vec::new, |at| facts.standings(at)),
    }
}

fn listed(faults: &[&Mark]) -> Vec<Sentence> {
    let mut lines: Vec<Sentence> = faults
        .iter()
        .take(FAULTS_MAX)
        .map(|mark| Sentence { at: Some(mark.at), text: mark.text.clone() })
        .collect();
    if let Some(more) = faults.len().checked_sub(FAULTS_MAX).filter(|more| *more > 0) {
        lines.push(Sentence { at: None, text: format!("… and {more} more") });
    }
    lines
}

/// How often VIPs changed machines, by cause.
fn moves(facts: &Facts<'_>) -> Chapter {
    let mut causes: Vec<(String, usize, Micros)> = Vec::new();
    for found in facts.moves() {
        match causes.iter_mut().find(|(cause, ..)| *cause == found.cause) {
            Some((_, count, _)) => *count += 1,
            None => causes.push((found.cause, 1, found.at)),
        }
    }
    let lines = causes.into_iter().map(|(cause, count, first)| {
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let since = if count == 1 { "" } else { ", first now" };
        Sentence { at: Some(first), text: format!("{times} because {cause}{since}") }
    });
    chapter("VIPs changed machines", lines.collect())
}

fn chapter(title: &str, lines: Vec<Sentence>) -> Chapter {
    Chapter { title: title.to_owned(), lines }
}

fn sentence(at: Micros, text: impl Into<String>) -> Sentence {
    Sentence { at: Some(at), text: text.into() }
}

/// A time as people write it: `4.213 s`.
fn time(at: Micros) -> String {
    format!("{}.{:03} s", at / 1_000_000, at / 1_000 % 1_000)
}

/// A length of time: `512 ms`, `3.2 s`.
fn length(micros: Micros) -> String {
    match micros / 1_000 {
        0 => format!("{micros} µs"),
        ms if ms < 10_000 => format!("{ms} ms"),
        ms => format!("{}.{} s", ms / 1_000, ms / 100 % 10),
    }
}
