//! Configured names for ids, for whatever people read.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{NodeId, ViewId};
use crate::vip::{Vip, VipId};

/// What people call nodes and VIPs. An unknown id is shown as a number.
#[derive(Clone, Debug, Default)]
pub struct Names {
    nodes: BTreeMap<NodeId, String>,
    vips: BTreeMap<VipId, String>,
}

impl Names {
    /// Takes the names from a configuration.
    pub fn new<'a>(
        nodes: impl IntoIterator<Item = &'a str>,
        vips: impl IntoIterator<Item = &'a Vip>,
    ) -> Self {
        Self {
            nodes: nodes.into_iter().map(|n| (NodeId::from_name(n), n.to_owned())).collect(),
            vips: vips.into_iter().map(|v| (v.id(), v.name().to_owned())).collect(),
        }
    }

    /// The name of a node.
    pub fn node(&self, id: NodeId) -> String {
        self.nodes.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The name of a VIP.
    pub fn vip(&self, id: VipId) -> String {
        self.vips.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The name of a view, as `epoch/coordinator`.
    pub fn view(&self, view: ViewId) -> String {
        format!("{}/{}", view.epoch, self.node(view.coordinator))
    }

    /// The names of several nodes, in the order of their names, between braces.
    pub fn set(&self, nodes: &BTreeSet<NodeId>) -> String {
        let mut names: Vec<_> = nodes.iter().map(|&n| self.node(n)).collect();
        names.sort();
        format!("{{{}}}", names.join(","))
    }
}
