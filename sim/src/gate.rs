//! SIGSTOP: a gate in front of a whole node. While it is closed nothing of the node runs; what arrives meanwhile waits in
//! the socket, and the clock goes on.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Open unless closed.
#[derive(Debug, Default)]
pub struct Gate {
    closed: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    /// Stops the node.
    pub fn close(&self) {
        self.closed.set(true);
    }

    /// Lets the node go on.
    pub fn open(&self) {
        self.closed.set(false);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A future behind a gate.
pub struct Gated<F> {
    inner: Pin<Box<F>>,
    gate: Rc<Gate>,
}

impl<F: Future> Gated<F> {
    /// Puts `inner` behind `gate`.
    pub fn new(inner: F, gate: Rc<Gate>) -> Self {
        Self { inner: Box::pin(inner), gate }
    }
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.gate.closed.get() {
            *self.gate.waiting.borrow_mut() = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.inner.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_runs_behind_a_closed_gate_and_everything_after_it_opens() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (gate, ticks) = (Rc::new(Gate::default()), Rc::new(Cell::new(0)));
            let counted = Rc::clone(&ticks);
            let node = async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    counted.set(counted.get() + 1);
                }
            };
            let world = async {
                tokio::time::sleep(Duration::from_millis(35)).await;
                assert_eq!(ticks.get(), 3);
                gate.close();
                tokio::time::sleep(Duration::from_millis(100)).await;
                assert_eq!(ticks.get(), 3);
                gate.open();
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(ticks.get(), 4, "the sleep that ended meanwhile returns at once");
            };
            tokio::select! { biased; () = Gated::new(node, Rc::clone(&gate)) => {}, () = world => {} }
        });
    }
}
