//! What an earlier daemon left.

use wackamole::env::Action;

use crate::kernel::{Kernel, Seen, foreign, ours};
use crate::namespace::Namespace;
use crate::worker::{Worker, vip};

pub(crate) fn removes_marked_listed_addresses_and_nothing_else() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        kernel.add_interface("eth1");
        let left_behind = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth1"]);
        assert_eq!(Worker::here().acquire(&left_behind), Ok(()));
        kernel.add_marked_address("eth1", "10.0.0.2/24"); // listed, on another interface, with another prefix
        kernel.add_marked_address("eth0", "10.0.0.3/32"); // of another daemon's cluster
        kernel.add_address("eth0", "10.0.0.4/32"); // listed, but somebody else's

        let mut worker =
            Worker::that_may_clean_up(&["10.0.0.1", "10.0.0.2", "10.0.0.4", "fd00::1"]);
        for _ in 0..2 {
            assert_eq!(worker.perform(Action::CleanUp), Ok(()));

            let other_daemons = Seen { no_prefix_route: false, ..ours("10.0.0.3/32") };
            assert_eq!(kernel.addresses("eth0"), [other_daemons, foreign("10.0.0.4/32")]);
            assert_eq!(kernel.addresses("eth1"), []);
        }
        assert_eq!(worker.vanished(), 0);
    });
}
