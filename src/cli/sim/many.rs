//! Many seeds on a few threads. Each seed is one run in one thread, and results are taken in the
//! order of the seeds, so that the output does not depend on the number of threads.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use super::super::failure::Failure;
use super::super::progress::Progress;
use super::super::serve::{self, StopSignals};
use super::source::{self, Source};
use super::summary::{Ran, Summary};
use super::verdict;

/// Seeds that broke a promise and are told at once; of more, only the number is told.
const TOLD_MAX: usize = 10;

/// Cores of this machine, as far as they can be counted.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs the seeds, tells of those that broke a promise, and adds everything up.
pub(super) fn run(
    source: &Source,
    seeds: Range<u64>,
    jobs: usize,
    hashes: bool,
) -> Result<Summary, Failure> {
    let stop = stop_flag("peerage: stopping after the seeds that are under way")?;
    let progress = Progress::of("sim", "seeds", Some(seeds.end - seeds.start));
    let mut summary = Summary::new(seeds.start, jobs);
    let mut result = Ok(());
    in_order(
        seeds,
        jobs,
        &stop,
        |seed| ran(source, seed),
        |ran: Ran| {
            progress.advance(1, 1);
            let mut text = String::new();
            if hashes {
                text = format!("{} {}\n", ran.seed, ran.hash_text());
            }
            if !ran.broken.is_empty() && summary.broken() < TOLD_MAX {
                let told = ran.told(&verdict::again(source, ran.seed));
                if hashes { progress.beside(|| eprint!("{told}")) } else { text.push_str(&told) }
            }
            let written = progress.beside(|| std::io::stdout().write_all(text.as_bytes()));
            if let Err(error) = written {
                result = Err(Failure::output(error));
                stop.store(true, Ordering::Relaxed);
            }
            summary.add(ran);
        },
    );
    summary.took = progress.elapsed();
    progress.finish();
    result.map(|()| summary)
}

fn ran(source: &Source, seed: u64) -> Ran {
    Ran::new(seed, source::attempt(source.scenario(Some(seed)), false))
}

/// Calls `work` with each seed on `jobs` threads, and `take` with the results in their order.
fn in_order<T: Send>(
    seeds: Range<u64>,
    jobs: usize,
    stop: &AtomicBool,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(T),
) {
    let next = AtomicU64::new(seeds.start);
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || sender.send((seed, work(seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut due = seeds.start;
        let mut early = BTreeMap::new();
        for (seed, result) in results {
            early.insert(seed, result);
            while let Some(result) = early.remove(&due) {
                take(result);
                due += 1;
            }
        }
    });
}

/// A flag that Ctrl-C sets, which is told. A second Ctrl-C ends the process at once.
pub(super) fn stop_flag(told: &'static str) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = serve::runtime()?;
    let mut signals = runtime.block_on(async { StopSignals::new() })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            flag.store(true, Ordering::Relaxed);
            eprintln!("{told}");
            signals.next().await;
            std::process::exit(2);
        });
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_seeds_whatever_the_threads() {
        for jobs in [1, 2, 7] {
            let mut taken = Vec::new();
            let never = AtomicBool::new(false);
            in_order(5..40, jobs, &never, |seed| seed * 2, |result| taken.push(result));
            assert_eq!(taken, (5..40).map(|seed| seed * 2).collect::<Vec<_>>(), "{jobs} jobs");
        }
    }

    #[test]
    fn a_stop_ends_after_what_is_under_way_and_leaves_no_gap() {
        let stop = AtomicBool::new(false);
        let mut taken = Vec::new();
        let work = |seed| {
            stop.store(seed >= 10, Ordering::Relaxed);
            seed
        };
        in_order(0..1_000_000, 2, &stop, work, |seed| taken.push(seed));
        let expected: Vec<u64> = (0..taken.len() as u64).collect();
        assert_eq!(taken, expected);
        assert!(taken.len() < 1_000_000);
    }
}
