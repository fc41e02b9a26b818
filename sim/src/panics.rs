//! Panics of daemons. In a spawned task of turmoil's they would be swallowed: `step` stays `Ok` and the task is gone. A
//! hook notes them for the thread that simulates, which looks after every tick.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static WATCHED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// From now on panics of this thread are noted instead of printed.
pub fn watch() {
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let noted = WATCHED.with_borrow_mut(|watched| match watched {
                Some(list) => {
                    list.push(info.to_string().replace('\n', ": "));
                    true
                }
                None => false,
            });
            if !noted {
                print(info);
            }
        }));
    });
    WATCHED.with_borrow_mut(|watched| *watched = Some(Vec::new()));
}

/// The first panic of this thread since the last call.
pub fn take() -> Option<String> {
    WATCHED.with_borrow_mut(|watched| match watched {
        Some(list) if !list.is_empty() => Some(std::mem::take(list).remove(0)),
        _ => None,
    })
}

/// Panics of this thread are printed again.
pub fn unwatch() {
    WATCHED.with_borrow_mut(|watched| *watched = None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_is_swallowed_is_noted_all_the_same() {
        watch();
        assert_eq!(take(), None);
        let swallowed = panic::catch_unwind(|| panic!("in a task"));
        assert!(swallowed.is_err());
        assert!(take().is_some_and(|text| text.contains("in a task")));
        assert_eq!(take(), None);
        unwatch();
    }
}
