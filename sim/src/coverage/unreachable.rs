//! What cannot be reached in the simulator, and why. If it is reached all the same, that is an error: the reason is wrong.

/// Things of one group that cannot be reached for one reason.
pub(super) struct Unreachable {
    pub(super) group: &'static str,
    pub(super) names: &'static [&'static str],
    pub(super) why: &'static str,
}

const CANNOT: &[Unreachable] = &[
    Unreachable {
        group: "event",
        names: &["configuration differs"],
        why: "all simulated daemons have the same configuration; the tests of the protocol's agent have others",
    },
    Unreachable {
        group: "acquired because",
        names: &["kept"],
        why: "what is kept is not acquired; the checker of stability would tell",
    },
    Unreachable {
        group: "acquired because",
        names: &["no view"],
        why: "nothing is acquired without a view",
    },
    Unreachable {
        group: "datagram refused as",
        names: &["unknown node", "own name"],
        why: "authentication comes first, and nobody but the configured nodes has the key",
    },
    Unreachable {
        group: "datagram refused as",
        names: &["not for us"],
        why: "nodes send to the group only what is for everybody",
    },
    Unreachable {
        group: "phase",
        names: &[
            "joining -> ended",
            "agreeing -> ended",
            "serving -> ended",
            "waiting (not primary) -> ended",
        ],
        why: "nobody ends gracefully who was not told to leave",
    },
    Unreachable {
        group: "phase",
        names: &[
            "leaving -> joining",
            "leaving -> agreeing",
            "leaving -> serving",
            "leaving -> waiting (not primary)",
        ],
        why: "whoever leaves is leaving to its end",
    },
    Unreachable {
        group: "phase",
        names: &[
            "ended -> joining",
            "ended -> agreeing",
            "ended -> serving",
            "ended -> waiting (not primary)",
            "ended -> leaving",
        ],
        why: "what starts later is another daemon",
    },
    Unreachable {
        group: "phase",
        names: &["serving -> waiting (not primary)", "waiting (not primary) -> serving"],
        why: "between two views there is an accept, or the loss of the first one",
    },
    Unreachable {
        group: "daemon",
        names: &[
            "off -> paused",
            "off -> frozen",
            "killed -> paused",
            "killed -> frozen",
            "ended -> paused",
            "ended -> frozen",
        ],
        why: "only what runs can be stopped",
    },
    Unreachable {
        group: "daemon",
        names: &["off -> killed", "off -> ended", "killed -> ended", "ended -> killed"],
        why: "only what runs can end",
    },
    Unreachable {
        group: "guardian",
        names: &["absent -> acting", "absent -> paused", "absent -> dead", "absent -> lost"],
        why: "a daemon's start brings a guardian that watches first",
    },
    Unreachable {
        group: "guardian",
        names: &["dead -> paused", "lost -> acting", "lost -> paused", "lost -> dead"],
        why: "a guardian that is gone does nothing, and nothing can be done to it",
    },
];

/// Why something cannot be reached, if that is known.
pub(super) fn why(group: &str, name: &str) -> Option<&'static str> {
    let listed = |entry: &&Unreachable| entry.group == group && entry.names.contains(&name);
    CANNOT.iter().find(listed).map(|entry| entry.why)
}

#[cfg(test)]
mod tests {
    use super::super::table::catalogue;
    use super::*;

    #[test]
    fn whatever_is_said_to_be_out_of_reach_exists_and_is_listed_once() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in CANNOT {
            for name in entry.names {
                let (group, why) = (entry.group, entry.why);
                assert!(seen.insert((group, name)), "{group}: {name} is listed twice");
                let exists = catalogue()
                    .iter()
                    .any(|(of, names)| *of == group && names.iter().any(|known| known == name));
                assert!(exists, "{group}: there is no {name}");
                assert!(!why.is_empty());
            }
        }
    }
}
