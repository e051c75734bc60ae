//! The look that a shard takes at all of its connections a few times a second.
//!
//! It ends those that took too long, and, where what connections keep is more than the memory for
//! it, those that keep most and have not moved for a second. Between two looks a node that is over
//! its budget reads little, and answers reads of large values with `overloaded`.

use std::rc::Rc;

use tokio::task::yield_now;
use tokio::time::{Duration, MissedTickBehavior, interval};

use super::patience::{Overdue, Patience};
use super::shard_thread::{Guest, Shell};
use crate::limits::{PRESSED_READ_BYTES, SWEEP_MS};
use crate::time::Now;

/// Connections that are looked at before others have their turn.
const LOOKS_AT_ONCE: usize = 128;

/// Looks at the connections of a shard for ever.
pub(super) async fn sweep(shell: Rc<Shell>) {
    let mut looks = interval(Duration::from_millis(SWEEP_MS));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = Patience::of(&shell.shared.config);
    loop {
        looks.tick().await;
        let is_pressed = shell.is_pressed();
        let mut idling = Vec::new();
        for first in (0..shell.seats()).step_by(LOOKS_AT_ONCE) {
            let now = shell.shared.clock.now();
            for (seat, guest) in shell.guests_from(first, LOOKS_AT_ONCE) {
                look(&shell, now, seat, &guest, patience);
                if is_pressed && guest.watch.borrow().is_idling(now.mono) {
                    idling.push((guest.kept.get(), guest));
                }
            }
            yield_now().await;
        }
        relieve(&shell, idling);
        resume(&shell).await;
    }
}

/// Lets those go on who waited for memory, as long as there is some.
async fn resume(shell: &Shell) {
    for first in (0..shell.seats()).step_by(LOOKS_AT_ONCE) {
        for (seat, guest) in shell.guests_from(first, LOOKS_AT_ONCE) {
            if shell.is_pressed() {
                return;
            }
            if guest.is_held_back.take() {
                shell.settle(shell.shared.clock.now(), seat, &guest);
                guest.bell.notify_one();
            }
        }
        yield_now().await;
    }
}

fn look(shell: &Shell, now: Now, seat: u32, guest: &Guest, patience: Patience) {
    let sight = guest.client.borrow().sight();
    let Some(overdue) = guest.watch.borrow_mut().look(now.mono, sight, patience) else { return };
    shell.shared.metrics.connections_overdue.increment();
    match overdue {
        Overdue::FirstRequest | Overdue::Token | Overdue::Request => {
            if guest.client.borrow_mut().dismiss(overdue.text()) {
                // Told, if its socket takes it; once told there is nothing to wait for.
                shell.settle(now, seat, guest);
            }
            end(guest);
        }
        // It reads nothing: whatever it were told would wait behind the rest.
        Overdue::Answers => end(guest),
    }
}

/// Ends connections, those first that keep most, until memory is not short any more.
fn relieve(shell: &Shell, mut idling: Vec<(usize, Rc<Guest>)>) {
    idling.sort_by_key(|&(kept, _)| std::cmp::Reverse(kept));
    for (kept, guest) in idling {
        // The end of those that keep next to nothing helps nobody.
        if !shell.is_pressed() || kept <= PRESSED_READ_BYTES {
            break;
        }
        shell.shared.metrics.connections_pressed_out.increment();
        shell.forget_kept(&guest);
        end(&guest);
    }
}

fn end(guest: &Guest) {
    guest.broken.set(true);
    guest.bell.notify_one();
}
