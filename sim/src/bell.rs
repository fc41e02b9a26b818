//! A bell that one task of the same thread waits for. It is rung at every turn of every daemon, which is why it is not tokio's
//! `Notify`, with its lock and its list of waiters.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Rung or not; rings that nobody has heard yet count as one.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Bell {
    /// Rings, and wakes whoever waited last.
    pub fn ring(&self) {
        self.rung.set(true);
        if let Some(waker) = &*self.waiting.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Waits for a ring; at once if there was one that nobody has heard. Cancel-safe.
    pub async fn heard(&self) {
        poll_fn(|context| {
            if self.rung.take() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if waiting.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                *waiting = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ring_is_heard_once_whether_somebody_waits_or_comes_later() {
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        assert!(pin!(bell.heard()).poll(&mut context).is_ready());
        let mut waits = pin!(bell.heard());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        bell.ring();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(waits.poll(&mut context).is_ready());
    }
}
