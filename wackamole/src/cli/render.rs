//! The status as text for people. Pure: a status and whether colours are wanted in, text out.
//!
//! What needs attention is marked at the start of its line, so that it is seen without colours too: `!` for a member
//! that is missing and a VIP that nobody or several machines hold, `~` for what is under way or unusual.

mod table;

use console::Style;
use wackamole_protocol::event::{LinkState, Rejection};
use wackamole_protocol::status::{NodeStatus, PathStatus, Phase, Status, VipStatus};

use super::count;
use table::{Cell, Mark, Table};

/// A path on which nothing came for so long is worth a note while the peer is heard on another.
const PATH_SILENT_MS: u64 = 5_000;

/// The whole status, each line ended.
pub(super) fn status(status: &Status, colour: bool) -> String {
    let paint = Paint { colour };
    let mut text = heading(status, &paint);
    text.push('\n');
    text.push_str(&nodes(status, &paint));
    text.push('\n');
    text.push_str(&vips(status, &paint));
    let rejected = rejected(status);
    if !status.warnings.is_empty() || !rejected.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        text.push_str(&format!("{} {}\n", paint.odd("warning:"), one_line(warning)));
    }
    if !rejected.is_empty() {
        text.push_str(&format!("refused datagrams: {rejected}\n"));
    }
    text
}

/// Colours, or none.
pub(super) struct Paint {
    colour: bool,
}

impl Paint {
    fn style(&self, style: Style, text: &str) -> String {
        style.force_styling(self.colour).apply_to(text).to_string()
    }

    fn strong(&self, text: &str) -> String {
        self.style(Style::new().bold(), text)
    }

    fn bad(&self, text: &str) -> String {
        self.style(Style::new().red().bold(), text)
    }

    fn odd(&self, text: &str) -> String {
        self.style(Style::new().yellow(), text)
    }

    fn marked(&self, mark: Mark, text: &str) -> String {
        match mark {
            Mark::Fine => text.to_owned(),
            Mark::Odd => self.odd(text),
            Mark::Bad => self.bad(text),
        }
    }
}

fn heading(status: &Status, paint: &Paint) -> String {
    let phase = match status.phase {
        Phase::Joining => paint.odd("joining"),
        Phase::Agreeing => paint.odd("agreeing on a view"),
        Phase::Serving => "serving".into(),
        Phase::Leaving => paint.odd("leaving"),
    };
    let (cluster, node) = (paint.strong(&status.cluster), paint.strong(&status.node));
    let mut text =
        format!("cluster {cluster}, node {node}, {phase}, incarnation {}\n", status.incarnation);
    match &status.view {
        Some(view) => {
            let members = format!("{} of {}", view.members.len(), status.nodes.len());
            let complete = view.members.len() == status.nodes.len();
            let members = paint.marked(if complete { Mark::Fine } else { Mark::Bad }, &members);
            text.push_str(&format!(
                "view {} by {}, {members} nodes ({}), for {}\n",
                view.epoch,
                view.coordinator,
                view.members.join(" "),
                age(view.age_ms)
            ));
        }
        None => text.push_str(&format!("{}\n", paint.bad("in no view: this node holds nothing"))),
    }
    text.push_str(&safety(status, paint));
    let vip_count = count(status.vips.len(), "VIP", "VIPs");
    if status.view.is_none() {
        text.push_str(&format!("{vip_count}: who holds them is not known without a view\n"));
        return text;
    }
    let held_by = |wanted: fn(usize) -> bool| {
        status.vips.iter().filter(|vip| wanted(vip.holders.len())).count()
    };
    let (once, nobody, several) = (held_by(|n| n == 1), held_by(|n| n == 0), held_by(|n| n > 1));
    text.push_str(&format!("{vip_count}, {once} held by one machine"));
    if nobody > 0 {
        text.push_str(&format!(", {}", paint.bad(&format!("{nobody} held by NOBODY"))));
    }
    if several > 0 {
        text.push_str(&format!(", {}", paint.bad(&format!("{several} held by SEVERAL"))));
    }
    text.push('\n');
    text
}

/// Which policy decides, and what it says.
fn safety(status: &Status, paint: &Paint) -> String {
    let safety = &status.safety;
    let mut text = format!("partition policy {}", safety.partition);
    if safety.lineage.is_some() {
        let primary = if safety.primary {
            ", this view is primary".to_owned()
        } else {
            paint.bad(", NOT PRIMARY: no VIP may be held here")
        };
        text.push_str(&primary);
    }
    if let Some(why_not) = &safety.why_not {
        text.push_str(&format!("; {}", one_line(why_not)));
    }
    if !safety.awaited.is_empty() {
        text.push_str(&format!("; awaited, not all of them: {}", safety.awaited.join(" ")));
    }
    if let Some(ms) = safety.lease_ms {
        text.push_str(&format!(", lease for another {}", age(ms)));
    }
    text.push('\n');
    if !safety.must_reach.is_empty() {
        let shown = safety.must_reach.iter().map(|reach| {
            let address = one_line(&reach.address);
            if reach.answers {
                format!("{address} answers")
            } else {
                paint.bad(&format!("{address} does not answer"))
            }
        });
        let shown: Vec<_> = shown.collect();
        text.push_str(&format!("must reach one of: {}\n", shown.join(", ")));
    }
    text
}

fn nodes(status: &Status, paint: &Paint) -> String {
    let mut table = Table::new(&[
        "NODE", "LINK", "HEARD", "MEMBER", "MATURE", "OWNS", "HOLDS", "WEIGHT", "NOTES",
    ]);
    table.right(&[2, 5, 6, 7]);
    for node in &status.nodes {
        let in_view = status.view.is_some();
        let link = match node.link {
            LinkState::TwoWay => Cell::from("two-way"),
            LinkState::OneWay => Cell::marked("one-way", Mark::Bad),
            LinkState::Silent => Cell::marked("silent", Mark::Bad),
        };
        let heard = match node.heard_ms_ago {
            _ if node.me => "-".into(),
            Some(ms) => age(ms),
            None => "never".into(),
        };
        let missing = if in_view && !node.member { Mark::Bad } else { Mark::Fine };
        let odd = if node.member && !node.mature { Mark::Odd } else { Mark::Fine };
        let (mut notes, unusual) = node_notes(node);
        if missing == Mark::Bad {
            notes.insert(0, "missing".to_owned());
        }
        let attention = missing.max(odd).max(unusual);
        let (own, hold) = (node.owns.to_string(), node.holds.to_string());
        let differ = if node.owns == node.holds { Mark::Fine } else { Mark::Odd };
        let attention = attention.max(differ);
        table.row(
            attention,
            vec![
                node.name.as_str().into(),
                link,
                heard.into(),
                Cell::marked(yes(node.member), missing),
                Cell::marked(yes(node.mature), odd),
                own.into(),
                Cell::marked(hold, differ),
                node.weight.to_string().into(),
                Cell::marked(notes.join("; "), unusual.max(missing)),
            ],
        );
    }
    table.show(paint)
}

/// What else is to be said about a node, and whether it is unusual.
fn node_notes(node: &NodeStatus) -> (Vec<String>, Mark) {
    let mut unusual = Vec::new();
    if node.draining {
        unusual.push("hands its VIPs over".to_owned());
    }
    if !node.same_configuration {
        unusual.push("DEFINES ITS VIPS OTHERWISE".to_owned());
    }
    if node.link == LinkState::OneWay {
        unusual.push("does not hear us".to_owned());
    }
    if node.paths.len() > 1 && node.link == LinkState::TwoWay && !node.me {
        let silent = |path: &&PathStatus| path.heard_ms_ago.is_none_or(|ms| ms > PATH_SILENT_MS);
        unusual.extend(
            node.paths.iter().filter(silent).map(|path| format!("nothing from {}", path.address)),
        );
    }
    let mark = if unusual.is_empty() { Mark::Fine } else { Mark::Odd };
    if node.me {
        unusual.insert(0, "this node".to_owned());
    }
    (unusual, mark)
}

fn vips(status: &Status, paint: &Paint) -> String {
    let mut table = Table::new(&["VIP", "OWNER", "HOLDER", "SINCE", "WHY", "NOTES"]);
    table.right(&[3]);
    for vip in &status.vips {
        let holder = match &vip.holders[..] {
            [] if status.view.is_none() => "?".into(),
            [] => Cell::marked("NOBODY", Mark::Bad),
            [one] => Cell::from(one.as_str()),
            several => Cell::marked(several.join(" "), Mark::Bad),
        };
        let (notes, attention) = vip_notes(vip, status.view.is_some());
        table.row(
            attention,
            vec![
                vip.name.as_str().into(),
                vip.owner.as_deref().unwrap_or("-").into(),
                holder,
                vip.owned_for_ms.map_or("-".into(), age).into(),
                vip.reason.map_or("-", |reason| reason.phrase()).into(),
                Cell::marked(notes.join("; "), attention),
            ],
        );
    }
    table.show(paint)
}

fn vip_notes(vip: &VipStatus, in_view: bool) -> (Vec<String>, Mark) {
    let mut notes = Vec::new();
    let mut attention = Mark::Fine;
    match (&vip.owner, &vip.holders[..]) {
        (_, []) if !in_view => {}
        (None, []) => {
            attention = Mark::Bad;
            notes.push("nobody can own it".to_owned());
        }
        (Some(owner), []) => {
            attention = Mark::Bad;
            notes.push(format!("{owner} does not answer for it"));
        }
        (Some(owner), [holder]) if owner != holder => {
            attention = Mark::Odd;
            notes.push(format!("moves from {holder} to {owner}"));
        }
        (None, [holder]) => {
            attention = Mark::Odd;
            notes.push(format!("{holder} releases it"));
        }
        (_, [_]) => {}
        (_, several) => {
            attention = Mark::Bad;
            notes.push(format!("{} machines answer for it", several.len()));
        }
    }
    if let Some(waiting) = &vip.waiting {
        attention = attention.max(Mark::Odd);
        notes.push(one_line(waiting));
    }
    if let Some(error) = &vip.error {
        attention = attention.max(Mark::Odd);
        notes.push(one_line(error));
    }
    (notes, attention)
}

fn rejected(status: &Status) -> String {
    let causes = status.rejected.iter().filter(|(_, count)| **count > 0).map(|(cause, count)| {
        let cause = match cause {
            Rejection::Malformed => "malformed",
            Rejection::Version => "of another protocol version",
            Rejection::OtherCluster => "of another cluster",
            Rejection::WrongKey => "with another key",
            Rejection::Replayed => "seen before",
            Rejection::UnknownNode => "from an unknown node",
            Rejection::OwnName => "with our own name",
            Rejection::NotForUs => "for another node",
        };
        format!("{count} {cause}")
    });
    causes.collect::<Vec<_>>().join(", ")
}

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Two units at most: `80ms`, `12.3s`, `4m 10s`, `3h 12m`, `5d 3h`.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}.{}s", ms / 100 % 10),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// What the daemon passes on from elsewhere must not move the cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
