//! A run as a picture: a lane for each VIP, coloured by its holder; faults are vertical marks, dark time is red, an
//! overlap is hatched; who holds a VIP in another part of a split network has the lower half of the lane. One HTML file that
//! needs nothing else.

use std::fmt::Write as _;

use wackamole_protocol::time::Duration;

use crate::journal::{Entry, KernelChange, What};
use crate::scenario::Scenario;
use crate::world::Outcome;

const LANE: u32 = 26;
const LEFT: f64 = 90.0;
const WIDTH: f64 = 1400.0;
const TOP: u32 = 150;

/// Distinct on a white background and for most colour-blind eyes; repeats after twelve.
const COLOURS: [&str; 12] = [
    "#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa7744", "#aa3377", "#88aa66", "#7788cc",
    "#bb9955", "#559988", "#997799", "#777777",
];

/// A stretch of a lane.
struct Stretch {
    vip: usize,
    from: Duration,
    to: Duration,
}

/// Draws a run.
pub fn html(scenario: &Scenario, outcome: &Outcome) -> String {
    let end = outcome.simulated;
    let x = |at: Duration| LEFT + (WIDTH - LEFT) * at.as_secs_f64() / end.as_secs_f64().max(1e-9);
    let mut svg = String::new();
    lanes(&mut svg, scenario, outcome, &x);
    faults(&mut svg, scenario, &outcome.entries, &x);
    axis(&mut svg, scenario, end, &x);

    let height = TOP + LANE * scenario.vips.len() as u32 + 40;
    let mut legend = String::new();
    for (node, spec) in scenario.nodes.iter().enumerate() {
        let name = escape(&spec.name);
        let _ = write!(legend, "<span><i style=\"background:{}\"></i>{name}</span> ", colour(node));
    }
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <h1>{title}</h1>\n<p>{story}</p>\n<p class=\"legend\">{file}, seed {seed}; held by {legend}\
         <span><i style=\"background:#ee3333\"></i>a client gets no answer</span> \
         <span><i class=\"hatch\"></i>two kernels answer</span></p>\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\">\n\
         <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <rect width=\"3\" height=\"6\" fill=\"#000\"/></pattern></defs>\n{svg}</svg>\n",
        title = escape(&scenario.title),
        story = escape(&scenario.story),
        file = escape(&scenario.file),
        seed = outcome.seed,
    )
}

const STYLE: &str = "body{font:14px sans-serif;margin:1.5em}h1{font-size:1.3em}svg text{font:11px sans-serif}\
    .legend span{margin-right:1em;white-space:nowrap}.legend i{display:inline-block;width:1em;height:1em;margin-right:.3em;\
    vertical-align:-.15em}.hatch{background:repeating-linear-gradient(45deg,#000,#000 2px,#fff 2px,#fff 4px)}";

fn lanes(svg: &mut String, scenario: &Scenario, outcome: &Outcome, x: &impl Fn(Duration) -> f64) {
    for (vip, spec) in scenario.vips.iter().enumerate() {
        let y = top(vip);
        let name = escape(spec.vip.name());
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            LEFT - 6.0,
            y + 15
        );
    }
    let mut drawn: Vec<Stretch> = Vec::new();
    let mut holdings = holdings(&outcome.entries, outcome.simulated);
    holdings.sort_by_key(|(_, stretch)| stretch.from);
    for (node, stretch) in holdings {
        let name = format!(
            "{} holds {}",
            scenario.nodes[node].name,
            scenario.vips[stretch.vip].vip.name()
        );
        // Who holds it beside another, in another part of the network, gets the lower half of the lane.
        let beside = drawn.iter().any(|d| d.vip == stretch.vip && d.to > stretch.from);
        let (offset, height) = if beside { (10, 8) } else { (2, 16) };
        rectangle(svg, &stretch, x, offset, height, colour(node), &name);
        if !beside {
            drawn.push(stretch);
        }
    }
    for overlap in overlaps(&outcome.entries, outcome.simulated) {
        rectangle(svg, &overlap, x, 2, 16, "url(#hatch)", "two kernels answer");
    }
    for dark in &outcome.interruptions {
        let stretch = Stretch { vip: dark.vip, from: dark.from, to: dark.to };
        let client = &scenario.clients[dark.client];
        let title = format!("{client} gets no answer for {} ms", dark.length().as_millis());
        rectangle(svg, &stretch, x, 18, 6, "#ee3333", &title);
    }
}

fn faults(svg: &mut String, scenario: &Scenario, entries: &[Entry], x: &impl Fn(Duration) -> f64) {
    let bottom = TOP + LANE * scenario.vips.len() as u32;
    let mut labelled_to = 0.0;
    for entry in entries {
        let (text, stroke) = match &entry.what {
            What::Fault { text, .. } => (text.clone(), "#555"),
            What::Violation { check, text } => (format!("BROKEN {check}: {text}"), "#e00"),
            _ => continue,
        };
        let (x, text) = (x(entry.at), escape(&text));
        // Labels on top of each other could not be read; the mark tells when pointed at.
        let readable = x >= labelled_to;
        let short: String = text.chars().take(if readable { 40 } else { 0 }).collect();
        if readable {
            labelled_to = x + 14.0;
        }
        let _ = writeln!(
            svg,
            "<g stroke=\"{stroke}\"><line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\" stroke-dasharray=\"3 2\"/>\
             <title>{:.3}s {text}</title></g>\
             <text x=\"{x:.1}\" y=\"{}\" fill=\"{stroke}\" transform=\"rotate(-40 {x:.1} {})\">{short}</text>",
            TOP - 8,
            entry.at.as_secs_f64(),
            TOP - 12,
            TOP - 12,
        );
    }
}

fn axis(svg: &mut String, scenario: &Scenario, end: Duration, x: &impl Fn(Duration) -> f64) {
    let y = TOP + LANE * scenario.vips.len() as u32 + 16;
    let step = (end.as_secs() / 20).max(1);
    for second in (0..=end.as_secs()).step_by(step as usize) {
        let x = x(Duration::from_secs(second));
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{second}s</text>");
    }
}

/// Who held what, from when to when.
fn holdings(entries: &[Entry], end: Duration) -> Vec<(usize, Stretch)> {
    let mut open = std::collections::BTreeMap::new();
    let mut done = Vec::new();
    for entry in entries {
        let What::Kernel { node, vip, change } = &entry.what else { continue };
        if *change == KernelChange::Acquired {
            open.insert((*node, *vip), entry.at);
        } else if let Some(from) = open.remove(&(*node, *vip)) {
            done.push((*node, Stretch { vip: *vip, from, to: entry.at }));
        }
    }
    done.extend(open.into_iter().map(|((node, vip), from)| (node, Stretch { vip, from, to: end })));
    done
}

fn overlaps(entries: &[Entry], end: Duration) -> Vec<Stretch> {
    let mut open = std::collections::BTreeMap::new();
    let mut done = Vec::new();
    for entry in entries {
        match &entry.what {
            What::OverlapBegan { vip, nodes, .. } => {
                open.insert((*vip, *nodes), entry.at);
            }
            What::OverlapEnded { vip, nodes, .. } => {
                if let Some(from) = open.remove(&(*vip, *nodes)) {
                    done.push(Stretch { vip: *vip, from, to: entry.at });
                }
            }
            _ => {}
        }
    }
    done.extend(open.into_iter().map(|((vip, _), from)| Stretch { vip, from, to: end }));
    done
}

fn rectangle(
    svg: &mut String,
    stretch: &Stretch,
    x: &impl Fn(Duration) -> f64,
    offset: u32,
    height: u32,
    fill: &str,
    title: &str,
) {
    let (from, to) = (x(stretch.from), x(stretch.to));
    // What lasts milliseconds in a minute must still be seen.
    let width = (to - from).max(1.0);
    let _ = writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"><title>{} ({:.3}s–{:.3}s)</title></rect>",
        top(stretch.vip) + offset,
        escape(title),
        stretch.from.as_secs_f64(),
        stretch.to.as_secs_f64(),
    );
}

fn top(vip: usize) -> u32 {
    TOP + LANE * vip as u32
}

fn colour(node: usize) -> &'static str {
    COLOURS[node % COLOURS.len()]
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holding_lasts_from_its_acquire_to_its_release_or_to_the_end() {
        let ms = Duration::from_millis;
        let kernel =
            |at, node, change| Entry { at: ms(at), what: What::Kernel { node, vip: 0, change } };
        let entries = [
            kernel(10, 0, KernelChange::Acquired),
            kernel(20, 0, KernelChange::PowerLost),
            kernel(25, 1, KernelChange::Acquired),
        ];
        let drawn: Vec<_> =
            holdings(&entries, ms(100)).iter().map(|(node, s)| (*node, s.from, s.to)).collect();
        assert_eq!(drawn, [(0, ms(10), ms(20)), (1, ms(25), ms(100))]);
    }

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
