//! What must hold in that world, looked at after every step or when it is quiet.

use std::collections::BTreeSet;

use super::World;
use crate::config::Partition;
use crate::event::Event;
use crate::time::Duration;

impl World {
    /// Running daemons that are connected with each other, directly or through others.
    pub(in crate::node::tests) fn components(&self) -> Vec<BTreeSet<usize>> {
        let mut rest: BTreeSet<usize> = (0..self.size()).filter(|&i| self.is_running(i)).collect();
        let mut components = Vec::new();
        while let Some(first) = rest.pop_first() {
            let mut component = BTreeSet::from([first]);
            while let Some(&next) =
                rest.iter().find(|&&i| component.iter().any(|&c| self.linked(c, i)))
            {
                rest.remove(&next);
                component.insert(next);
            }
            components.push(component);
        }
        components
    }

    /// P1, also of machines whose daemon is dead or stopped: their gates are shut when the lease ends.
    pub(super) fn check_exclusive(&mut self) {
        for vip in self.vips() {
            let holders = self.holders(vip);
            if self.config.safety.partition == Partition::Quorum {
                let story = || self.story(80);
                assert!(holders.len() < 2, "{}: {vip} is on {holders:?}\n{}", self.now, story());
                continue;
            }
            let overlap = holders
                .iter()
                .enumerate()
                .any(|(i, &a)| holders[i + 1..].iter().any(|&b| self.linked(a, b)));
            if !overlap {
                self.overlap_since.remove(&vip);
                continue;
            }
            let since = *self.overlap_since.entry(vip).or_insert(self.now);
            // While links are broken one by one, two views may be kept from becoming one: then the smaller yields.
            let kept_apart = !self.cut.is_empty()
                && self.now
                    <= since
                        + self.config.timing.failure_timeout * 4
                        + Duration::from_micros(self.operation_us.1);
            assert!(
                self.now <= self.tolerant_until || kept_apart,
                "{} since {since}: {vip} is on {holders:?}\n{}",
                self.now,
                self.story(80),
            );
        }
    }

    /// P2: in each component whose members all hear each other every VIP has exactly one holder.
    pub(in crate::node::tests) fn assert_covered(&self) {
        for component in self.components() {
            for vip in self.vips() {
                let holders: Vec<_> =
                    self.holders(vip).into_iter().filter(|h| component.contains(h)).collect();
                assert_eq!(
                    holders.len(),
                    1,
                    "{}: {vip} is on {holders:?} of {component:?}\n{}",
                    self.now,
                    self.story(80)
                );
            }
        }
    }

    pub(in crate::node::tests) fn assert_balanced(&self) {
        for component in self.components() {
            let counts: Vec<usize> = component.iter().map(|&i| self.holds(i)).collect();
            let (min, max) = (counts.iter().min(), counts.iter().max());
            assert!(
                max.zip(min).is_none_or(|(max, min)| max - min <= 1),
                "{}: {counts:?}\n{}",
                self.now,
                self.story(80)
            );
        }
    }

    /// The last lines of what happened, ids replaced by names. What is merely assigned is left out.
    pub(in crate::node::tests) fn story(&self, lines: usize) -> String {
        let told: Vec<_> = self
            .log
            .iter()
            .filter(|(_, _, event)| !matches!(event, Event::Assigned { .. }))
            .collect();
        let skip = told.len().saturating_sub(lines);
        let mut story: String = told[skip..]
            .iter()
            .map(|(at, i, event)| format!("{at} {} {event:?}\n", self.config.nodes[*i].name))
            .collect();
        for node in &self.config.nodes {
            story = story.replace(&node.id().to_string(), &node.name);
        }
        for definition in &self.config.vips {
            story = story.replace(&definition.vip.id().to_string(), definition.vip.name());
        }
        story
    }
}
