//! The address tables of the machines. A table belongs to the kernel: it survives the daemon, and vanishes only with the
//! power or through a fence.
//!
//! To *have* an address and to *answer* for it are two things: a shut gate drops what comes for it, and a machine that its
//! hypervisor has stopped answers nobody.

/// All machines' address tables.
#[derive(Clone, Debug)]
pub struct Kernels {
    vips: usize,
    powered: Vec<bool>,
    frozen: Vec<bool>,
    shut: Vec<bool>,
    barred: Vec<bool>,
    holds: Vec<bool>,
    counts: Vec<usize>,
    version: u64,
}

impl Kernels {
    /// Machines without power and with empty tables.
    pub fn new(nodes: usize, vips: usize) -> Self {
        Self {
            vips,
            powered: vec![false; nodes],
            frozen: vec![false; nodes],
            shut: vec![false; nodes],
            barred: vec![false; nodes * vips],
            holds: vec![false; nodes * vips],
            counts: vec![0; nodes],
            version: 0,
        }
    }

    /// Grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many VIPs there are.
    pub fn vips(&self) -> usize {
        self.vips
    }

    /// How many machines there are.
    pub fn nodes(&self) -> usize {
        self.powered.len()
    }

    /// The machine is on.
    pub fn powered(&self, node: usize) -> bool {
        self.powered[node]
    }

    /// The machine is on and runs.
    pub fn runs(&self, node: usize) -> bool {
        self.powered[node] && !self.frozen[node]
    }

    /// The machine's kernel answers for the VIP, whatever its daemon is doing.
    pub fn answers(&self, node: usize, vip: usize) -> bool {
        self.runs(node)
            && !self.shut[node]
            && self.has(node, vip)
            && !self.barred[node * self.vips + vip]
    }

    /// The VIP is in the machine's table, whether the machine answers for it or not.
    pub fn has(&self, node: usize, vip: usize) -> bool {
        self.holds[node * self.vips + vip]
    }

    /// How many VIPs are in the machine's table.
    pub fn count(&self, node: usize) -> usize {
        self.counts[node]
    }

    /// The VIPs in the machine's table.
    pub fn table(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.vips).filter(move |&vip| self.has(node, vip))
    }

    /// Everybody whose kernel answers for the VIP.
    pub fn holders(&self, vip: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes()).filter(move |&node| self.answers(node, vip))
    }

    /// The VIPs for which the machine's kernel answers.
    pub fn held_by(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.vips).filter(move |&vip| self.answers(node, vip))
    }

    /// Switches a machine on; its table is empty.
    pub fn power_on(&mut self, node: usize) {
        self.powered[node] = true;
        self.version += 1;
    }

    /// Switches a machine off; its table is gone. Returns what it held.
    pub fn power_off(&mut self, node: usize) -> Vec<usize> {
        let held = self.table(node).collect();
        self.holds[node * self.vips..(node + 1) * self.vips].fill(false);
        self.counts[node] = 0;
        self.powered[node] = false;
        self.frozen[node] = false;
        self.version += 1;
        held
    }

    /// Adds or removes a VIP's addresses. Returns whether that changed anything.
    pub fn set(&mut self, node: usize, vip: usize, held: bool) -> bool {
        // Whoever adds an address lets it through the gate, also if it was there.
        let barred = &mut self.barred[node * self.vips + vip];
        self.version += u64::from(*barred && held);
        *barred &= !held;
        let entry = &mut self.holds[node * self.vips + vip];
        let changed = *entry != held;
        *entry = held;
        if changed {
            self.version += 1;
            let count = &mut self.counts[node];
            *count = if held { *count + 1 } else { *count - 1 };
        }
        changed
    }

    /// Shuts or opens the machine's gate. Returns whether that changed anything.
    pub fn set_shut(&mut self, node: usize, shut: bool) -> bool {
        let changed = self.shut[node] != shut;
        self.shut[node] = shut;
        self.version += u64::from(changed);
        changed
    }

    /// The machine's gate no longer lets anything through for a VIP that is about to be removed.
    pub fn bar(&mut self, node: usize, vip: usize) {
        let barred = &mut self.barred[node * self.vips + vip];
        self.version += u64::from(!*barred);
        *barred = true;
    }

    /// The hypervisor stops the machine, or lets it go on.
    pub fn set_frozen(&mut self, node: usize, frozen: bool) {
        self.frozen[node] = frozen;
        self.version += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_goes_with_the_power() {
        let mut kernels = Kernels::new(2, 3);
        kernels.power_on(0);
        assert!(kernels.set(0, 1, true));
        assert!(!kernels.set(0, 1, true), "adding twice changes nothing");
        assert!(kernels.answers(0, 1));
        assert_eq!(kernels.holders(1).collect::<Vec<_>>(), [0]);

        assert_eq!(kernels.power_off(0), [1]);
        kernels.power_on(0);

        assert_eq!((kernels.held_by(0).count(), kernels.count(0)), (0, 0));
    }

    #[test]
    fn a_shut_gate_and_a_stopped_machine_answer_nobody_and_forget_nothing() {
        let mut kernels = Kernels::new(1, 2);
        kernels.power_on(0);
        kernels.set(0, 1, true);

        assert!(kernels.set_shut(0, true) && !kernels.set_shut(0, true));
        assert!(!kernels.answers(0, 1) && kernels.has(0, 1));
        kernels.set_shut(0, false);
        kernels.bar(0, 1);
        assert!(!kernels.answers(0, 1) && kernels.has(0, 1));
        kernels.set(0, 1, false);
        kernels.set(0, 1, true);
        kernels.set_frozen(0, true);
        assert!(!kernels.answers(0, 1) && kernels.holders(1).next().is_none());
        kernels.set_frozen(0, false);

        assert!(kernels.answers(0, 1));
        assert_eq!((kernels.count(0), kernels.table(0).collect::<Vec<_>>()), (1, vec![1]));
    }

    #[test]
    fn only_changes_count_as_changes() {
        let mut kernels = Kernels::new(1, 1);
        kernels.power_on(0);
        let before = kernels.version();
        kernels.set(0, 0, false);
        assert_eq!(kernels.version(), before);
        kernels.set(0, 0, true);
        assert!(kernels.version() > before);
    }
}
