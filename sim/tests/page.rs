//! The page of a run needs nothing else, says everything that the journal says, and cannot be broken by names; its account
//! names what really happened.

use sim::account;
use sim::journal::{KernelChange, What};
use sim::page;
use sim::scenario::Scenario;
use sim::story::build::{micros, story};
use sim::story::{Account, Story};
use sim::world::{self, Outcome};

/// Nothing stands behind the daemon that is killed, and nothing excuses what follows.
const UNFENCED: &str = r#"
    title = "a killed daemon <without> any fence"
    nodes = ["one", "two", "three"]
    vips = 3
    clients = ["left", "right"]
    duration = "8s"
    policies = ["component"]

    [fences]
    gate = false
    guardian = false
    lifetime = false

    [[step]]
    at = "5s"
    kill = "two"
"#;

const POWER_LOSS: &str = r#"
    title = "a machine is lost"
    nodes = 3
    vips = 3
    duration = "8s"

    [[step]]
    at = "5s"
    power_loss = "b"
"#;

fn told(text: &str, datagrams: bool) -> (Scenario, Outcome, Story) {
    let scenario = Scenario::parse("told.toml", text).unwrap_or_else(|error| panic!("{error}"));
    let outcome = world::run(&scenario, 1, datagrams);
    let story = story(&scenario, &outcome);
    (scenario, outcome, story)
}

/// What the page carries.
fn carried(page: &str) -> Story {
    let (_, rest) = page
        .split_once("<script type=\"application/json\" id=\"story\">")
        .expect("the page carries its story");
    let (data, _) = rest.split_once("</script>").expect("it ends");
    serde_json::from_str(data).expect("what it carries is a story")
}

/// Every element that is opened is closed, in the right order.
fn assert_well_formed(page: &str) {
    const EMPTY: [&str; 4] = ["meta", "input", "br", "!doctype"];
    let mut open: Vec<String> = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, behind) = after.split_once('>').expect("a tag ends");
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "near <{tag}>");
            continue;
        }
        let name = tag.split_whitespace().next().expect("a tag has a name").to_lowercase();
        if EMPTY.contains(&name.as_str()) {
            continue;
        }
        if name == "script" || name == "style" {
            // What is in there is no markup, up to the end tag.
            let (_, behind) = rest.split_once(&format!("</{name}>")).expect("it ends");
            rest = behind;
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn a_page_is_well_formed_needs_nothing_else_and_says_everything() {
    let (scenario, _, story) = told(UNFENCED, true);
    let page = page::html(&story);
    assert_well_formed(&page);
    for reference in ["http://", "https://", "src=", "@import", "url(h", "<link", "fetch("] {
        assert!(!page.contains(reference), "the page refers to something else: {reference}");
    }
    assert!(page.contains("a killed daemon &lt;without&gt; any fence"));
    let carried = carried(&page);
    let names: Vec<_> = carried.nodes.iter().map(|node| &node.name).collect();
    assert_eq!(names, scenario.nodes.iter().map(|node| &node.name).collect::<Vec<_>>());
    let vips: Vec<_> = carried.vips.iter().map(|vip| vip.name.clone()).collect();
    assert_eq!(vips, scenario.vip_names());
    let kinds: std::collections::BTreeSet<_> =
        carried.messages.sent.iter().map(|m| carried.messages.kinds[m.4].as_str()).collect();
    assert!(kinds.is_superset(&["agreement", "heartbeat", "echo"].into()), "{kinds:?}");
    let proposal = carried.messages.sent.iter().find(|m| m.6.starts_with("propose 100"));
    assert!(proposal.is_some_and(|m| m.0 < m.1), "a proposal is on the wire for a while");
}

#[test]
fn names_and_texts_of_whatever_kind_stay_text() {
    const HOSTILE: &str = "</script><script>alert('x')</script><!-- \"&\u{2028}{{data}}";
    let (_, _, mut story) = told(UNFENCED, false);
    story.title = HOSTILE.to_owned();
    story.about = HOSTILE.to_owned();
    story.nodes[1].name = HOSTILE.to_owned();
    story.vips[2].name = HOSTILE.to_owned();
    story.clients[0] = HOSTILE.to_owned();
    story.marks[0].text = HOSTILE.to_owned();
    story.events[0].text = HOSTILE.to_owned();
    story.facts[0].value = HOSTILE.to_owned();
    story.account = account::account(&story);
    story.account.headline = HOSTILE.to_owned();
    let page = page::html(&story);
    assert_well_formed(&page);
    assert!(!page.contains("<script>alert") && !page.contains("<!-- "), "a text is markup");
    let carried = carried(&page);
    assert_eq!(
        (&carried.nodes[1].name, &carried.vips[2].name, &carried.clients[0]),
        (&story.nodes[1].name, &story.vips[2].name, &story.clients[0])
    );
    assert_eq!((&carried.marks, &carried.events), (&story.marks, &story.events));
}

#[test]
fn what_a_page_carries_agrees_with_the_journal() {
    let (_, outcome, story) = told(UNFENCED, false);
    let carried = carried(&page::html(&story));
    let (mut faults, mut broken, mut overlaps) = (0, 0, 0);
    for entry in &outcome.entries {
        let at = micros(entry.at);
        match &entry.what {
            What::Fault { text, nodes } => {
                faults += 1;
                let same = |m: &&sim::story::Mark| m.at == at && m.text == *text && !m.broken;
                let mark = carried.marks.iter().find(same).expect("a fault is marked");
                assert_eq!(&mark.nodes, nodes);
            }
            What::Violation { check, text } => {
                broken += 1;
                let text = format!("{check}: {text}");
                assert!(carried.marks.iter().any(|m| m.broken && m.at == at && m.text == text));
            }
            What::Kernel { node, vip, change: KernelChange::Acquired } => {
                let held = &carried.vips[*vip].held;
                assert!(
                    held.iter().any(|span| span.node == *node && span.from == at),
                    "{node} has {vip} from {at} on: {held:?}"
                );
            }
            What::OverlapBegan { vip, nodes, excuse } => {
                overlaps += 1;
                let found = carried.vips[*vip].overlaps.iter().find(|o| o.from == at);
                let found = found.expect("an overlap is drawn");
                assert_eq!((found.nodes, found.excuse.as_deref()), (*nodes, *excuse));
            }
            What::Lit { client, vip, node, .. } => {
                let seen = &carried.vips[*vip].seen;
                let same = |s: &&sim::story::SeenSpan| s.client == *client && s.from == at;
                let span = seen.iter().find(same).expect("who answers a client is drawn");
                assert_eq!(span.by, Some(*node));
            }
            _ => {}
        }
    }
    assert_eq!(carried.marks.len(), faults + broken);
    assert!(faults > 0 && broken > 0 && overlaps > 0, "the run has something of each");
    assert_eq!(carried.account.broken, broken);
    assert!(carried.messages.sent.is_empty() && carried.messages.seen == 0);
}

#[test]
fn dark_times_are_the_interruptions_that_were_measured() {
    let (_, outcome, story) = told(POWER_LOSS, false);
    assert!(!outcome.interruptions.is_empty(), "b held something");
    for dark in &outcome.interruptions {
        let mut seen = story.vips[dark.vip].seen.iter().filter(|span| span.by.is_none());
        assert!(
            seen.any(|span| (span.client, span.from, span.to)
                == (dark.client, micros(dark.from), micros(dark.to))),
            "{dark:?}"
        );
    }
}

#[test]
fn lanes_tell_states_views_leases_and_guardians() {
    let (_, _, story) = told(POWER_LOSS, false);
    let b = &story.nodes[1];
    let states: Vec<_> = b.states.iter().map(|span| span.state.as_str()).collect();
    assert_eq!(states, ["off", "running", "off"]);
    assert_eq!(b.states[2].from, 5_000_000);
    let view = b.views.last().expect("b was in a view");
    assert_eq!((view.members.as_slice(), view.to), ([0, 1, 2].as_slice(), 5_000_000));
    let lease = b.leases.last().expect("b held something, under a lease");
    assert!(lease.ended && lease.to.abs_diff(5_000_000) <= 1_000, "it went with the power");
    assert!(lease.told.len() > 3, "it was renewed with the heartbeats");
    assert!(b.guardian.iter().any(|span| span.state == "watching"));
    let a = &story.nodes[0];
    assert_eq!(a.views.last().map(|view| view.members.as_slice()), Some([0, 2].as_slice()));
    assert!(a.links.iter().any(|link| link.peer == 1 && link.state == "silent"));
    assert_eq!(a.leases.last().map(|lease| lease.to), Some(story.end), "it runs on");
}

/// All that an account says, in one string.
fn words(account: &Account) -> String {
    let lines = account.chapters.iter().flat_map(|chapter| &chapter.lines);
    let lines: Vec<&str> = lines.map(|line| line.text.as_str()).collect();
    format!("{}\n{}", account.headline, lines.join("\n"))
}

#[test]
fn the_account_of_an_overlap_names_both_machines_the_lease_and_the_causes() {
    let (_, _, story) = told(UNFENCED, false);
    let account = &story.account;
    assert!(account.broken > 0);
    let words = words(account);
    for part in [
        "while two, whose lease was over since 5.3",
        "still answered, because the daemon of two was dead since 5.000 s while its kernel answered on",
        "with no guardian behind it; it has no gate",
        "heard nothing of two and gave it up",
        "kill -9: two",
        "until the end of the run",
    ] {
        assert!(words.contains(part), "`{part}` is missing in\n{words}");
    }
    let standing = account.standings.iter().find(|s| s.node == 1).expect("two is told of");
    assert!(standing.daemon.starts_with("dead since"), "{standing:?}");
    assert_eq!((standing.gate.as_str(), standing.guardian.as_str()), ("has none", "has none"));
    let printed = account::text(&story);
    assert!(printed.starts_with(&account.headline) && printed.contains("What was broken:"));
}

#[test]
fn the_account_of_an_interruption_names_who_was_lost_and_who_took_over() {
    let text = format!("{POWER_LOSS}\n[[expect]]\ninterruption_max = \"10ms\"\n");
    let (_, _, story) = told(&text, false);
    let headline = &story.account.headline;
    for part in [
        "client got no answer from",
        "b, which had answered, was powered off at 5.000 s",
        "took over at 5.",
        "nobody held it",
    ] {
        assert!(headline.contains(part), "`{part}` is missing in {headline}");
    }
    assert!(story.account.at.is_some_and(|at| (4_999_000..=5_002_000).contains(&at)));
}

#[test]
fn a_machine_that_goes_on_in_the_middle_of_its_lease_is_the_cause_that_is_named() {
    let text = r#"
        title = "a machine goes on after the others have taken over, and hears nobody"
        nodes = 3
        vips = 3
        duration = "9s"
        policies = ["component"]

        [network]
        segment = "own"

        [[step]]
        at = "6s"
        pause_machine = "b"

        [[step]]
        at = "6.3s"
        partition = [["a", "c", "client"], ["b"]]

        [[step]]
        at = "6.6s"
        resume_machine = "b"
    "#;
    let (_, _, story) = told(text, false);
    let words = words(&story.account);
    assert!(words.contains("b answered for"), "{words}");
    assert!(words.contains("the host of b had stopped it from 6.000 s to 6.600 s"), "{words}");
    assert!(words.contains("its clock with it"), "{words}");
}

#[test]
fn a_run_in_which_nothing_happens_is_told_in_a_sentence() {
    let text = "title = \"idle\"\nnodes = 2\nvips = 1\nduration = \"4s\"\nseeds = 1\n";
    let (_, _, story) = told(text, false);
    let headline = &story.account.headline;
    assert!(headline.starts_with("Every promise was kept."), "{headline}");
    assert!(
        headline.contains("no VIP changed machines. No client was ever without an answer."),
        "{headline}"
    );
}
