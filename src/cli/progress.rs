//! How far a long command has come: a bar on a terminal, a line every few seconds elsewhere.
//!
//! All of it goes to stderr, so that stdout carries nothing but results.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines where stderr is no terminal.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// The progress of one command; shared by its threads.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    /// What is counted.
    unit: &'static str,
    bar: ProgressBar,
    /// Items so far, and when the last line was written; `None` where a bar is drawn.
    items: Mutex<Items>,
}

#[derive(Debug)]
struct Items {
    count: u64,
    next_line: Option<Duration>,
    /// How the work stands beside its count, for people.
    stands: String,
}

impl Progress {
    /// Progress of `what` through `length` units, where that is known, on stderr, counting keys.
    pub(crate) fn start(what: &'static str, length: Option<u64>) -> Self {
        Self::of(what, "keys", length)
    }

    /// As [`Progress::start`], counting `unit`.
    pub(crate) fn of(what: &'static str, unit: &'static str, length: Option<u64>) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let target =
            if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(length, target);
        let template = match length {
            Some(_) => "{prefix} [{bar:32}] {percent:>3} %  {msg}  {eta} left",
            None => "{prefix} {spinner} {msg}  {elapsed}",
        };
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what);
        let next_line = (!is_terminal).then_some(LINE_PERIOD);
        Self {
            what,
            unit,
            bar,
            items: Mutex::new(Items { count: 0, next_line, stands: String::new() }),
        }
    }

    /// Progress that is counted and not shown: where the results themselves fill the terminal.
    pub(crate) fn silent(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let never = Some(Duration::MAX);
        let items = Mutex::new(Items { count: 0, next_line: never, stands: String::new() });
        Self { what, unit: "keys", bar, items }
    }

    /// `items` more are done, and the work stands at `position` of its length.
    pub(crate) fn reach(&self, items: u64, position: u64) {
        self.bar.set_position(position);
        self.note(items);
    }

    /// `items` more are done, which are `units` of the length.
    pub(crate) fn advance(&self, items: u64, units: u64) {
        self.bar.inc(units);
        self.note(items);
    }

    /// Says how the work stands from the next unit on.
    pub(crate) fn stand(&self, text: String) {
        self.items.lock().expect("no thread panics while it counts").stands = text;
    }

    fn note(&self, more: u64) {
        let mut items = self.items.lock().expect("no thread panics while it counts");
        items.count += more;
        let elapsed = self.bar.elapsed();
        let rate = rate(items.count, self.unit, elapsed);
        let message =
            if items.stands.is_empty() { rate } else { format!("{rate}; {}", items.stands) };
        match items.next_line {
            None => self.bar.set_message(message),
            Some(due) if elapsed >= due => {
                items.next_line = Some(elapsed + LINE_PERIOD);
                eprintln!("{}: {}{message}", self.what, self.share());
            }
            Some(_) => {}
        }
    }

    fn share(&self) -> String {
        match self.bar.length() {
            Some(length) if length > 0 => {
                let percent = self.bar.position().saturating_mul(100) / length;
                format!("{percent} %, {} left, ", HumanDuration(self.bar.eta()))
            }
            Some(_) | None => String::new(),
        }
    }

    /// Writes something else while the bar is out of the way.
    pub(crate) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.bar.elapsed()
    }

    /// Ends the bar; gives what was reached, for the summary.
    pub(crate) fn finish(&self) -> String {
        self.bar.finish_and_clear();
        let items = self.items.lock().expect("no thread panics while it counts");
        let elapsed = self.bar.elapsed();
        let seconds = elapsed.as_millis() / 100;
        format!("{} in {}.{} s", rate(items.count, self.unit, elapsed), seconds / 10, seconds % 10)
    }
}

fn rate(count: u64, unit: &str, elapsed: Duration) -> String {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let per_second = count.saturating_mul(1_000) / ms;
    format!("{} {unit}, {}/s", HumanCount(count), HumanCount(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_a_whole_number_also_at_the_start() {
        assert_eq!(rate(12_345, "keys", Duration::from_secs(10)), "12,345 keys, 1,234/s");
        assert_eq!(rate(0, "keys", Duration::ZERO), "0 keys, 0/s");
    }

    #[test]
    fn threads_count_together() {
        let progress = Progress::start("import", Some(40));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| progress.advance(10, 10));
            }
        });
        assert!(progress.finish().starts_with("40 keys"));
        assert_eq!(progress.share(), "100 %, 0 seconds left, ");
    }
}
