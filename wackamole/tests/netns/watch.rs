//! Noticing what happens without our doing.

use std::collections::BTreeSet;

use wackamole::env::{Action, AddressEvent};
use wackamole::io::addresses::AddressesConfig;

use crate::kernel::{Kernel, cable, ours, sysctl};
use crate::namespace::Namespace;
use crate::worker::{Worker, vip};

pub(crate) fn reports_an_address_deleted_by_hand() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        let mut worker = Worker::here();
        for (vip, address) in [
            (vip(&["10.0.0.1/32@eth0"]), "10.0.0.1/32"),
            (vip(&["fd00::1/128@eth0"]), "fd00::1/128"),
        ] {
            assert_eq!(worker.acquire(&vip), Ok(()));

            kernel.delete_address("eth0", address);

            worker.wait_until_vanished(&vip);
            assert_eq!(worker.acquire(&vip), Ok(()), "put back");
            assert_eq!(kernel.addresses("eth0"), [ours(address)]);
            assert_eq!(worker.release(&vip), Ok(()));
            assert_eq!(worker.vanished(), 0, "only once");
        }
    });
}

pub(crate) fn reports_what_an_interface_takes_with_it() {
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        let vip = vip(&["10.0.0.1/32@eth0", "fd00::1/128@eth0"]);
        let mut worker = Worker::here();
        assert_eq!(worker.acquire(&vip), Ok(()));

        kernel.delete_link("eth0");

        worker.wait_until_vanished(&vip);
        worker.wait_until_interfaces_changed();
        assert!(worker.acquire(&vip).is_err());
        assert_eq!(worker.release(&vip), Ok(()));

        kernel.add_interface("eth0");
        worker.wait_until_interfaces_changed();
        assert_eq!(worker.acquire(&vip), Ok(()), "another interface of the same name");
        assert_eq!(kernel.addresses("eth0"), [ours("10.0.0.1/32"), ours("fd00::1/128")]);
    });
}

pub(crate) fn reports_interfaces_that_change() {
    let (left, right) = cable();
    left.enter(|| {
        let kernel = Kernel::here();
        let mut worker = Worker::here();
        kernel.set_up("eth0", false);
        worker.wait_until_interfaces_changed();
        kernel.set_up("eth0", true);
        worker.wait_until_interfaces_changed();
        kernel.wait_until_running("eth0");
        worker.forget_reports();
        right.enter(|| Kernel::here().set_up("eth0", false)); // pulls our carrier
        worker.wait_until_interfaces_changed();
    });
}

/// A buffer that holds only a few notifications overflows with our own changes already, and again when the kernel removes
/// all addresses of a subnet with its first one.
pub(crate) fn survives_lost_notifications() {
    const COUNT: usize = 120;
    Namespace::new().enter(|| {
        let kernel = Kernel::here();
        kernel.add_interface("eth0");
        let mut config = AddressesConfig::new(BTreeSet::new());
        config.monitor_buffer_bytes = 1;
        let mut worker = Worker::with(config);
        let vips: Vec<_> =
            (0..COUNT).map(|number| vip(&[&format!("10.0.0.{number}/24@eth0")])).collect();
        let tickets: Vec<_> =
            vips.iter().map(|vip| worker.submit(Action::Acquire(vip.clone()))).collect();
        for ticket in tickets {
            worker.wait_for(|event| is_success(event, ticket));
        }
        assert_eq!(kernel.addresses("eth0").len(), COUNT);
        assert_eq!(worker.vanished(), 0);

        sysctl("ipv4/conf/eth0/promote_secondaries", "0");
        kernel.delete_address("eth0", "10.0.0.0/24");
        assert_eq!(kernel.addresses("eth0"), []);

        for vip in &vips {
            worker.wait_until_vanished(vip);
        }
        assert_eq!(worker.acquire(&vips[7]), Ok(()));
        assert_eq!(kernel.addresses("eth0"), [ours("10.0.0.7/24")]);
    });
}

fn is_success(event: &AddressEvent, wanted: u64) -> bool {
    matches!(event, AddressEvent::Done { ticket, result: Ok(()) } if *ticket == wanted)
}
