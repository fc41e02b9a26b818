//! A story as one HTML file that needs nothing else: no network, no other file. What is read is in the markup itself, so that
//! it survives where scripts do not run; the chart and the table of events are drawn by the scripts from the story's JSON,
//! which the page carries with it.
//!
//! [`html`] knows nothing of the simulator; [`index`] is the table of a sweep.

mod index;
mod markup;

pub use index::{Listed, index};

use markup::{Page, escape};

use crate::story::{Account, Chapter, Sentence, Standing, Story};

const STYLE: &str = include_str!("page.css");
const TEMPLATE: &str = include_str!("page.html");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 6] = [
    include_str!("story.js"),
    include_str!("scale.js"),
    include_str!("lanes.js"),
    include_str!("overlay.js"),
    include_str!("table.js"),
    include_str!("main.js"),
];

/// Draws a story.
pub fn html(story: &Story) -> String {
    let account = &story.account;
    let mut story_data = story.clone();
    // What stands in the markup already need not be carried twice.
    story_data.about = String::new();
    story_data.facts = Vec::new();
    story_data.account = Account { broken: account.broken, at: account.at, ..Account::default() };
    let data = serde_json::to_string(&story_data).unwrap_or_else(|_| "null".to_owned());
    Page::new(TEMPLATE)
        .text("title", &story.title)
        .markup("style", STYLE)
        .markup("verdict", &badge(story))
        .markup("about", &paragraphs(&story.about))
        .markup("facts", &facts(story))
        .markup("headline", &sentence_markup(&account.headline, account.at))
        .markup("chapters", &account.chapters.iter().map(chapter).collect::<String>())
        .markup("standings", &standings(story))
        .markup("reproduce", &story.reproduce.as_deref().map_or(String::new(), command))
        .markup("data", &markup::inert(&data))
        .markup("scripts", &SCRIPTS.concat())
        .finish()
}

fn badge(story: &Story) -> String {
    match &story.verdict {
        Some(words) => {
            let class = if story.account.broken == 0 { "good" } else { "bad" };
            format!("<span class=\"verdict {class}\">{}</span>", escape(words))
        }
        None => verdict(story.account.broken),
    }
}

fn verdict(broken: usize) -> String {
    match broken {
        0 => "<span class=\"verdict good\">every promise kept</span>".to_owned(),
        1 => "<span class=\"verdict bad\">1 promise broken</span>".to_owned(),
        many => format!("<span class=\"verdict bad\">{many} promises broken</span>"),
    }
}

fn paragraphs(text: &str) -> String {
    let parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| format!("<p>{}</p>", escape(part))).collect()
}

fn facts(story: &Story) -> String {
    let fact = |fact: &crate::story::Fact| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(&fact.name), escape(&fact.value))
    };
    story.facts.iter().map(fact).collect()
}

fn command(command: &str) -> String {
    format!("<p class=\"command\">Shows it again: <code>{}</code></p>", escape(command))
}

fn sentence_markup(text: &str, at: Option<u64>) -> String {
    match at {
        Some(at) => format!(
            "{} <a class=\"see\" href=\"#t={}\">see it in the chart</a>",
            escape(text),
            seconds(at)
        ),
        None => escape(text),
    }
}

fn chapter(chapter: &Chapter) -> String {
    let line = |Sentence { at, text }: &Sentence| {
        let time =
            at.map_or(String::new(), |at| format!("<a href=\"#t={0}\">{0} s</a>", seconds(at)));
        format!("<li><span class=\"when\">{time}</span><span>{}</span></li>", escape(text))
    };
    let lines: String = chapter.lines.iter().map(line).collect();
    format!(
        "<section class=\"chapter\"><h3>{}</h3><ul>{lines}</ul></section>",
        escape(&chapter.title)
    )
}

/// How the machines stood, as a table.
fn standings(story: &Story) -> String {
    let account = &story.account;
    let (Some(at), false) = (account.at, account.standings.is_empty()) else {
        return String::new();
    };
    let row = |standing: &Standing| {
        let name = &story.nodes[standing.node].name;
        let cells = [
            &standing.daemon,
            &standing.view,
            &standing.lease,
            &standing.guardian,
            &standing.gate,
            &standing.answers,
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!(
            "<tr><th scope=\"row\"><i class=\"swatch n{}\"></i>{}</th>{cells}</tr>",
            standing.node % 12,
            escape(name)
        )
    };
    let rows: String = account.standings.iter().map(row).collect();
    format!(
        "<h3>How the machines stood at {} s</h3><div class=\"scroll\"><table class=\"standings\"><thead><tr><th>machine</th>\
         <th>daemon</th><th>view</th><th>lease</th><th>guardian</th><th>gate</th><th>answered for</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>",
        seconds(at)
    )
}

/// Whole milliseconds, as links and people write them.
fn seconds(at: u64) -> String {
    format!("{}.{:03}", at / 1_000_000, at / 1_000 % 1_000)
}
