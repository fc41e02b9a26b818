//! The section `[safety]`: what a part of the cluster may do alone, leases, and the fences behind them.

use std::time::Duration;

use wackamole_protocol::config::{NodeDefinition, Partition, QuorumKind, Safety, Timing};

use super::document::{Section, Value};
use super::report::Problem;
use super::settings::duration;
use super::units;

/// The largest drift that can be configured: a tenth.
const DRIFT_PPM_MAX: u64 = 100_000;

/// What stands behind the daemon when it cannot release by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The kernel drops what is for a VIP when the lease has run out (nftables), where it can.
    pub gate: bool,
    /// A program and its arguments, run before anything is taken over from a node that vanished; `{node}` in an
    /// argument stands for its name. Empty: none.
    pub command: Vec<String>,
    /// The command is killed, and the takeover goes on waiting, after so long.
    pub command_timeout: Duration,
}

impl Default for Fence {
    fn default() -> Self {
        Self { gate: true, command: Vec::new(), command_timeout: Duration::from_secs(30) }
    }
}

pub(super) fn read(
    root: &Section<'_>,
    timing: &Timing,
    problems: &mut Vec<Problem>,
) -> (Safety, Fence) {
    let section = root.table("safety", problems);
    section.only(
        &[
            "partition",
            "quorum",
            "min_quorum",
            "must_reach",
            "lan_wait_max",
            "drift",
            "release_margin",
            "fence",
            "fence_command",
            "fence_command_timeout",
        ],
        problems,
    );
    let partition = section.optional("partition", problems, |value| {
        one_of(
            value,
            &[
                ("component", Partition::Component),
                ("lan", Partition::Lan),
                ("quorum", Partition::Quorum),
            ],
        )
    });
    let mut safety = Safety::new(partition.map_or(Partition::Lan, |p| p.value), timing);
    let quorum = section.optional("quorum", problems, |value| {
        one_of(value, &[("dynamic", QuorumKind::Dynamic), ("static", QuorumKind::Static)])
    });
    safety.quorum = quorum.map_or(safety.quorum, |quorum| quorum.value);
    let min = section.optional("min_quorum", problems, |v| v.integer(1, 48, "min_quorum = 2"));
    safety.min_quorum =
        min.and_then(|min| usize::try_from(min.value).ok()).unwrap_or(safety.min_quorum);
    let wait = section.optional("lan_wait_max", problems, |value| {
        if value.text("lan_wait_max = \"never\", or \"1h\"")? == "never" {
            return Ok(None);
        }
        duration(value, Duration::from_millis(100), Duration::from_secs(7 * 86_400)).map(Some)
    });
    safety.lan_wait_max = wait.and_then(|wait| wait.value);
    let drift = section.optional("drift", problems, drift);
    safety.drift_ppm = drift.map_or(safety.drift_ppm, |drift| drift.value);
    let margin = section.optional("release_margin", problems, |v| {
        duration(v, Duration::ZERO, Duration::from_secs(60))
    });
    if let Some(margin) = margin {
        safety.release_margin = margin.value;
        let latest = timing.failure_timeout.saturating_sub(2 * timing.heartbeat);
        if margin.value > latest {
            problems.push(
                Problem::at(
                    margin.span,
                    format!(
                        "`release_margin` is {}, which leaves less than two heartbeats of {} of a lease of {}",
                        units::show(margin.value),
                        units::show(timing.heartbeat),
                        units::show(timing.failure_timeout)
                    ),
                )
                .help(format!("write release_margin = \"{}\" or less", units::show(latest))),
            );
        }
    }
    let mut fence = Fence::default();
    let gate = section
        .optional("fence", problems, |value| one_of(value, &[("nftables", true), ("none", false)]));
    fence.gate = gate.map_or(fence.gate, |gate| gate.value);
    let command = section.optional("fence_command", problems, |value| {
        const LIKE: &str = "fence_command = [\"/usr/local/sbin/power-off\", \"{node}\"]";
        let words: Result<Vec<_>, _> =
            value.array(LIKE)?.map(|word| word.text(LIKE).map(str::to_owned)).collect();
        let words = words?;
        if words.first().is_none_or(|program| !program.starts_with('/')) {
            return Err(Problem::at(value.span(), "`fence_command` does not name a program")
                .help(format!("write the whole path first, like {LIKE}")));
        }
        Ok(words)
    });
    fence.command = command.map_or(fence.command, |command| command.value);
    let timeout = section.optional("fence_command_timeout", problems, |v| {
        duration(v, Duration::from_millis(100), Duration::from_secs(3600))
    });
    fence.command_timeout = timeout.map_or(fence.command_timeout, |timeout| timeout.value);
    (safety, fence)
}

/// What only shows when the nodes are known.
pub(super) fn check_nodes(
    root: &Section<'_>,
    safety: &Safety,
    nodes: &[NodeDefinition],
    problems: &mut Vec<Problem>,
) {
    let section = root.table("safety", &mut Vec::new());
    if nodes.is_empty() {
        return; // that is told elsewhere
    }
    if safety.min_quorum > nodes.len()
        && let Some(span) = section.key_span("min_quorum")
    {
        problems.push(
            Problem::at(
                span,
                format!(
                    "`min_quorum` is {} and there are {} nodes",
                    safety.min_quorum,
                    nodes.len()
                ),
            )
            .help(format!("from 1 to {} is accepted; more would never hold a VIP", nodes.len())),
        );
    }
    if nodes.iter().all(|node| node.witness) {
        let problem = section.problem("every node is a witness, and nobody may hold a VIP");
        problems.push(problem.help("leave `witness = true` to those that shall only vote"));
    }
}

/// A word that stands for a choice.
fn one_of<T: Copy>(value: Value<'_>, choices: &[(&str, T)]) -> Result<T, Problem> {
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let like = format!("{} = {}", value.key, words.join(" or "));
    let text = value.text(&like)?;
    choices.iter().find(|(word, _)| *word == text).map(|&(_, choice)| choice).ok_or_else(|| {
        Problem::at(value.span(), format!("`{}` is \"{text}\"", value.key))
            .help(format!("accepted are {}", words.join(", ")))
    })
}

/// Parts per million, written `"1000ppm"` or `"0.1%"`.
fn drift(value: Value<'_>) -> Result<u32, Problem> {
    const LIKE: &str = "drift = \"1000ppm\", or \"0.1%\"";
    let text = value.text(LIKE)?;
    let wrong = || {
        Problem::at(value.span(), format!("`drift` is \"{text}\""))
            .help(format!("from 0ppm to {DRIFT_PPM_MAX}ppm is accepted: write it like {LIKE}"))
    };
    let ppm = if let Some(number) = text.strip_suffix("ppm") {
        number.trim().parse::<f64>().map_err(|_| wrong())?
    } else if let Some(number) = text.strip_suffix('%') {
        number.trim().parse::<f64>().map_err(|_| wrong())? * 10_000.0
    } else {
        return Err(wrong());
    };
    if !(0.0..=DRIFT_PPM_MAX as f64).contains(&ppm) {
        return Err(wrong());
    }
    Ok(ppm.round() as u32)
}
