//! Two machines answered for one VIP: who came second, what the first one's lease said, and why neither gave way.

use super::facts::{Facts, Lease, TICK, cause, mentions};
use super::{Matter, length, sentence, time};
use crate::story::{Mark, Micros, OverlapSpan, Sentence};

/// A machine that went on so long ago has heard of everything by now.
const THAWED_LATELY: Micros = 2_000_000;
/// Parts that met so long ago have sorted themselves out.
const MET_LATELY: Micros = 2_000_000;

/// The overlap that a broken promise is about.
pub(super) fn named(facts: &Facts<'_>, mark: &Mark, vip: Option<usize>) -> Option<Matter> {
    let vip = vip?;
    let overlaps = facts.story.vips[vip].overlaps.iter();
    let around = overlaps.filter(|o| o.from <= mark.at && mark.at <= o.to + TICK);
    let both =
        |o: &&OverlapSpan| o.nodes.iter().all(|&node| mentions(&mark.text, facts.name(node)));
    let overlap = around.clone().find(both).or_else(|| around.clone().next())?;
    Some(matter(facts, vip, overlap))
}

/// The longest of all; what two parts do that the policy lets serve side by side comes last.
pub(super) fn longest(facts: &Facts<'_>) -> Option<Matter> {
    let vips = facts.story.vips.iter().enumerate();
    let all = vips.flat_map(|(vip, lane)| lane.overlaps.iter().map(move |o| (vip, o)));
    let (vip, overlap) =
        all.max_by_key(|(vip, o)| (o.to - o.from, std::cmp::Reverse((o.from, *vip))))?;
    Some(matter(facts, vip, overlap))
}

fn matter(facts: &Facts<'_>, vip: usize, overlap: &OverlapSpan) -> Matter {
    let at = overlap.from;
    let since = |node: usize| facts.held(vip, node, at).map_or(0, |span| span.from);
    let [x, y] = overlap.nodes;
    let (first, second) = if since(x) <= since(y) { (x, y) } else { (y, x) };
    let (first_name, second_name) = (facts.name(first), facts.name(second));
    let lease = match facts.lease(first, at) {
        Lease::Runs(until) => format!("while {first_name}'s lease ran until {}", time(until)),
        Lease::Over(over) | Lease::Given(over) => {
            format!("while {first_name}, whose lease was over since {}, still answered", time(over))
        }
        Lease::Never => format!("while {first_name} answered for it too"),
    };
    let mut why = Vec::new();
    machine(facts, first, at, &mut why);
    machine(facts, second, at, &mut why);
    between(facts, first, second, at, &mut why);
    let because = match why.as_slice() {
        [] => "and the record shows no cause".to_owned(),
        [one] => format!("because {}", one.text),
        [one, two, ..] => format!("because {}, and {}", one.text, two.text),
    };
    if let Some(taken) = facts.held(vip, second, at) {
        why.push(sentence(
            taken.from,
            format!("{second_name} had taken it because {}", cause(taken)),
        ));
    }
    if let Some(excuse) = &overlap.excuse {
        why.push(sentence(at, format!("it was allowed for a while, because {excuse}")));
    }
    let lasted = if overlap.to >= facts.story.end {
        "until the end of the run".to_owned()
    } else {
        format!("for {}", length(overlap.to - at))
    };
    why.push(sentence(
        overlap.to,
        format!("both answered {lasted}{}", ending(facts, vip, overlap)),
    ));
    let headline = format!(
        "At {} {second_name} answered for {} {lease}, {because}.",
        time(at),
        facts.vip(vip)
    );
    let lasted = overlap.to - at;
    Matter { at, lasted, headline, nodes: vec![first, second], vip: Some(vip), why }
}

/// How it ended: who let go.
fn ending(facts: &Facts<'_>, vip: usize, overlap: &OverlapSpan) -> String {
    let ended = |node: &&usize| {
        let span = facts.held(vip, **node, overlap.to.saturating_sub(TICK));
        span.is_some_and(|span| span.to.abs_diff(overlap.to) <= 2 * TICK)
    };
    match overlap.nodes.iter().find(ended) {
        Some(&node) if overlap.to < facts.story.end => {
            let over = match facts.lease(node, overlap.to + TICK) {
                Lease::Over(at) if at.abs_diff(overlap.to) <= 2 * TICK => {
                    " when its lease was over"
                }
                _ => "",
            };
            format!("; then {} no longer answered{over}", facts.name(node))
        }
        _ => String::new(),
    }
}

/// What was wrong with one of the machines.
fn machine(facts: &Facts<'_>, node: usize, at: Micros, why: &mut Vec<Sentence>) {
    let lane = &facts.story.nodes[node];
    let name = &lane.name;
    let stopped = lane.states.iter().rev().find(|span| {
        span.state == "frozen" && span.to <= at + TICK && span.to + THAWED_LATELY >= at
    });
    if let Some(stopped) = stopped {
        why.push(sentence(
            stopped.to,
            format!(
                "the host of {name} had stopped it from {} to {}, its clock with it, so that its lease had time left when it went on",
                time(stopped.from),
                time(stopped.to)
            ),
        ));
    }
    let (state, phrase, since) = facts.state(node, at);
    if ["killed", "paused"].contains(&state) {
        let standing = match facts.guardian(node, at) {
            None => ", with no guardian behind it".to_owned(),
            Some(("watching" | "acting", text, _)) => format!(", and its guardian was {text}"),
            Some((_, text, _)) => format!(", and its guardian was {text} as well"),
        };
        let gate = match (lane.gate, facts.lease(node, at)) {
            (Some(true), Lease::Runs(_)) => "; its gate stood open for as long as the lease ran",
            (Some(false), _) => "; it has no gate",
            _ => "",
        };
        let text = format!(
            "the daemon of {name} was {phrase} since {} while its kernel answered on{standing}{gate}",
            time(since)
        );
        why.push(sentence(since, text));
    }
    let allowed = i64::from(facts.story.drift_allowed_ppm);
    if lane.clock_ppm.abs() > allowed {
        let way = if lane.clock_ppm < 0 { "slow" } else { "fast" };
        let ppm = lane.clock_ppm.abs();
        let text = format!(
            "the clock of {name} goes {ppm} ppm {way} where {allowed} ppm are allowed, so that its lease ends later than the others reckon"
        );
        if lane.clock_ppm < 0 {
            why.push(sentence(at, text));
        }
    }
}

/// What the two knew of each other.
fn between(facts: &Facts<'_>, first: usize, second: usize, at: Micros, why: &mut Vec<Sentence>) {
    let mut met = true;
    for (one, other) in [(second, first), (first, second)] {
        let (one_name, other_name) = (facts.name(one), facts.name(other));
        let attends = ["running", "leaving"].contains(&facts.state(one, at).0);
        let link = facts.link(one, other, at).filter(|_| attends);
        let view = facts.view(one, at).filter(|_| attends);
        let without = view.filter(|view| !view.members.contains(&other));
        let text = match (link, without) {
            (Some(("silent", since)), Some(view)) => format!(
                "{one_name} heard nothing of {other_name} and gave it up at {}; it was in view {} without it",
                time(since),
                facts.view_text(view)
            ),
            (Some(("silent", since)), None) => {
                format!("{one_name} had heard nothing of {other_name} since {}", time(since))
            }
            (Some(("one-way", since)), _) => {
                format!("{one_name} heard {other_name} since {}, and was not heard", time(since))
            }
            (Some((_, since)), Some(view)) if since + MET_LATELY >= at => format!(
                "{one_name} heard {other_name} again only since {}, and was still in view {} without it",
                time(since),
                facts.view_text(view)
            ),
            (_, Some(view)) => {
                format!("{one_name} was in view {} without {other_name}", facts.view_text(view))
            }
            _ => {
                met &= attends && view.is_some();
                continue;
            }
        };
        met = false;
        why.push(sentence(link.map_or(at, |(_, since)| since), text));
    }
    if met {
        let text = format!(
            "both were in one view, {}",
            facts.view(second, at).map_or_else(String::new, |view| facts.view_text(view))
        );
        why.push(sentence(at, text));
    }
}
