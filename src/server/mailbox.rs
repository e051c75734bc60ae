//! What other threads tell one thread: a queue under a mutex and a bell.
//!
//! Measured beside channels and eventfd, the plainest queue did as well as any: what pays is to
//! take everything that waits at once.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A queue with one reader, who sleeps until the bell rings.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    waiting: Mutex<Waiting<T>>,
    bell: Notify,
    taken: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    letters: Vec<T>,
    weight: usize,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let waiting = Waiting { letters: Vec::new(), weight: 0 };
        Self { waiting: Mutex::new(waiting), bell: Notify::new(), taken: Notify::new() }
    }
}

impl<T> Mailbox<T> {
    /// Adds a letter and wakes the reader. `weight` is what it counts against a bound, in whatever
    /// unit the bound is.
    pub(crate) fn post(&self, letter: T, weight: usize) {
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.letters.push(letter);
            waiting.weight += weight;
            waiting.letters.len() == 1
        };
        // Whoever found the queue empty wakes the reader, who then takes the letters of all.
        if first {
            self.bell.notify_one();
        }
    }

    /// Wakes the reader without a letter.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until the bell rings, or has rung since the last time.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Moves every letter to the end of `letters`, in order.
    pub(crate) fn take(&self, letters: &mut Vec<T>) {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            letters.append(&mut waiting.letters);
            waiting.weight = 0;
        }
        self.taken.notify_waiters();
    }

    /// Waits until the letters that wait weigh less than `bound`.
    pub(crate) async fn room(&self, bound: usize) {
        loop {
            let mut taken = pin!(self.taken.notified());
            taken.as_mut().enable();
            if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).weight < bound {
                return;
            }
            taken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_all_letters_in_order_and_makes_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mailbox = Mailbox::default();
            mailbox.post("a", 3);
            mailbox.post("b", 4);
            mailbox.rung().await;
            mailbox.room(8).await;
            let writer = async {
                mailbox.room(7).await;
                mailbox.post("c", 0);
            };
            let reader = async {
                let mut letters = Vec::new();
                mailbox.take(&mut letters);
                mailbox.rung().await;
                mailbox.take(&mut letters);
                letters
            };
            let ((), letters) = tokio::join!(writer, reader);
            assert_eq!(letters, ["a", "b", "c"]);
        });
    }
}
