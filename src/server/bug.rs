//! What a bug does to a node: it ends.
//!
//! A panic leaves state behind that is not to be trusted, while the log knows everything that was
//! acknowledged. So nothing goes on after one, neither in a thread nor in a task, whose panics a
//! runtime would swallow.

use std::future::Future;
use std::sync::Arc;

use tokio::task::spawn_local;

use super::Failure;
use super::shared::Shared;

/// Calls back when it is dropped by a panic.
struct Guard<F: FnMut()>(F);

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

/// Runs the body of a thread; should it panic, the node ends.
pub(super) fn guard(shared: &Arc<Shared>, what: &str, body: impl FnOnce(&Arc<Shared>)) {
    let _guard = Guard(|| shared.fail(failure(what)));
    body(shared);
}

/// Spawns a task on this thread; should it panic, the node ends.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    what: &'static str,
    task: impl Future<Output = ()> + 'static,
) -> tokio::task::JoinHandle<()> {
    let shared = Arc::clone(shared);
    spawn_local(watch(task, move || shared.fail(failure(what))))
}

async fn watch(task: impl Future<Output = ()>, on_bug: impl FnMut()) {
    let _guard = Guard(on_bug);
    task.await;
}

fn failure(what: &str) -> Failure {
    let text = format!(
        "a bug stopped {what}; what was acknowledged is safe: start the node again, and report \
         the lines above"
    );
    Failure { text, exit_code: 1 }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[test]
    fn a_panic_in_a_task_is_noticed_and_its_end_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            for panics in [false, true] {
                let noticed = Rc::new(Cell::new(false));
                let notice = Rc::clone(&noticed);
                let task = async move {
                    yield_now().await;
                    assert!(!panics, "a bug");
                };
                let ended = spawn_local(watch(task, move || notice.set(true))).await;
                assert_eq!(ended.is_err(), panics);
                assert_eq!(noticed.get(), panics);
            }
        });
    }
}
