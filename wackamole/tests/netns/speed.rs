//! How long address work takes. Printed, not asserted: the machine may be busy.

use std::time::{Duration, Instant};

use wackamole::env::{Action, AddressEvent};

use crate::kernel::{Kernel, cable};
use crate::worker::{Worker, vip};

const COUNT: usize = 1_000;

pub(crate) fn takeover_of_a_thousand_vips() {
    take_over("IPv4", |number| format!("10.1.{}.{}/32@eth0", number / 250, number % 250 + 1));
}

pub(crate) fn takeover_of_a_thousand_ipv6_vips() {
    take_over("IPv6", |number| format!("fd00::{number:x}/128@eth0"));
}

fn take_over(what: &str, address: impl Fn(usize) -> String + Sync) {
    let (left, _right) = cable();
    left.enter(|| {
        let vips: Vec<_> = (0..COUNT).map(|number| vip(&[&address(number)])).collect();
        let mut worker = Worker::here();
        let acquire = elapsed(|| {
            for vip in &vips {
                worker.submit(Action::Acquire(vip.clone()));
                worker.submit(Action::Announce(vip.clone()));
            }
            wait_for(&mut worker, 2 * COUNT);
        });
        assert!(Kernel::here().addresses("eth0").len() >= COUNT);
        let release = elapsed(|| {
            for vip in &vips {
                worker.submit(Action::Release(vip.clone()));
            }
            wait_for(&mut worker, COUNT);
        });
        eprintln!("{COUNT} {what} VIPs: acquired and announced in {acquire:.1?}, released in {release:.1?}");
    });
}

fn wait_for(worker: &mut Worker, count: usize) {
    let mut done = 0;
    while done < count {
        if let AddressEvent::Done { result, .. } = worker.next() {
            assert_eq!(result, Ok(()));
            done += 1;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement of real time, printed and not judged")]
fn elapsed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
