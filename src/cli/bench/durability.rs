//! `bench durability`: kill -9 under load, again and again, and a look at every key afterwards.
//!
//! Nodes of its own are killed while clients write: one of them in most rounds, all of them at
//! once in every third. They start again on the data that they have, and every key that was written
//! is read from all of its replicas. kill -9 takes a process and leaves the system: what an
//! operating system had in its memory survives it. The loss of power is a matter for the simulator.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::fate::{Fate, Verdict};
use super::machine;
use super::nodes::{NodeFlags, Nodes};
use crate::cli::failure::Failure;
use crate::cli::output::{Cell, Format, Printer};
use crate::cli::progress::Progress;
use crate::client::{Answer, Call, Client, Error, Level};

/// Keys, or batches, of one writer.
const NAMES_PER_WRITER: usize = 100;
/// Keys of a batch.
const BULK_KEYS: usize = 5;
/// One in so many writers writes batches.
const BULK_WRITERS: usize = 4;
/// How often a round that kills all nodes comes.
const ROUND_OF_ALL: u32 = 3;
/// Reads that are sent at once.
const READS_AT_ONCE: usize = 100;
/// Longest time that the reads of a round may take.
const READ_WITHIN: Duration = Duration::from_mins(1);
/// How long a writer waits after a refusal: no node may be there to be asked.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// Complaints that are shown.
const COMPLAINTS_SHOWN: usize = 10;

/// Arguments of `bench durability`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
In each round clients write for --seconds, then one node is killed by kill -9 (in every third round
all of them), they write on for as long, the dead start again, and every key is read from all of its
replicas. A write that was acknowledged must be there, a refused one must not, a batch must be there
whole or not at all.

Examples:
  peerage bench durability
  peerage bench durability --nodes 1 --rounds 50 -o json

Exit code 1: something acknowledged was lost, something refused was there, or half a batch.")]
pub(crate) struct Durability {
    /// Nodes to start
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    #[command(flatten)]
    setup: NodeFlags,
    /// Rounds, each with one kill at least
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Clients that write; one in four writes batches
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// Seconds of load before and after each kill
    #[arg(long, value_name = "S", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How results are written [default: table on a terminal, jsonl elsewhere]
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What all writers know together.
#[derive(Debug, Default)]
struct Ledger {
    /// By writer and name.
    fates: Vec<Vec<Fate>>,
    acked_writes: u64,
    acked_bulks: u64,
    refused: u64,
    unknown: u64,
}

/// What the reads have shown.
#[derive(Debug, Default)]
struct Findings {
    lost: u64,
    wrong: u64,
    half: u64,
    read: u64,
    complaints: Vec<String>,
}

const COLUMNS: [&str; 11] = [
    "rounds",
    "kills",
    "acked_writes",
    "acked_bulks",
    "refused",
    "unknown",
    "keys_read",
    "lost",
    "half_bulks",
    "refused_but_applied",
    "durability",
];

impl Durability {
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let count = usize::from(self.nodes);
        let mut nodes = Nodes::start(count, &self.setup).await?;
        let machine = machine::machine(Some(nodes.data_dir()));
        let set_up = machine::set_up(&nodes.addrs()).await;
        eprintln!("{}\n{}", machine::line(&machine), machine::line(&set_up));
        let progress = Progress::of("bench", "writes", Some(u64::from(self.rounds)));
        let mut ledger = Ledger::default();
        ledger.fates.resize(usize::from(self.clients), vec![Fate::default(); NAMES_PER_WRITER]);
        let ledger = Arc::new(Mutex::new(ledger));
        let (mut findings, mut kills) = (Findings::default(), 0);
        for round in 0..self.rounds {
            let victims = victims(round, count);
            kills += victims.len() as u64;
            let before = lock(&ledger).acked_writes;
            self.round(&mut nodes, &victims, &ledger).await?;
            check(&ledger, &nodes.addrs(), &mut findings).await?;
            progress.advance(lock(&ledger).acked_writes - before, 1);
            if let Some(complaint) = findings.complaints.last() {
                progress.stand(format!("WRONG: {complaint}"));
            }
        }
        eprintln!("bench: {}", progress.finish());
        self.show(&lock(&ledger), &findings, kills).map_err(Failure::output)?;
        verdict(&findings)
    }

    /// Load, kills in the middle of it, and the dead back again.
    async fn round(
        &self,
        nodes: &mut Nodes,
        victims: &[usize],
        ledger: &Arc<Mutex<Ledger>>,
    ) -> Result<(), Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..usize::from(self.clients) {
            let client = Client::new(nodes.addrs()).starting_at(writer);
            let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
            writers.spawn(write_until(stop, ledger, client, writer));
        }
        let load = Duration::from_secs(self.seconds);
        sleep_until(Instant::now() + load).await;
        for &victim in victims {
            nodes.kill(victim);
        }
        sleep_until(Instant::now() + load).await;
        victims.iter().try_for_each(|&victim| nodes.restart(victim))?;
        nodes.wait_ready().await?;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = writers.join_next().await {
            ended.expect("a writer does not panic");
        }
        Ok(())
    }

    fn show(&self, ledger: &Ledger, findings: &Findings, kills: u64) -> io::Result<()> {
        let format = self.output.unwrap_or_else(Format::default_for_stdout);
        let mut printer = Printer::new(format, &COLUMNS, io::stdout().lock());
        let numbers = [
            u64::from(self.rounds),
            kills,
            ledger.acked_writes,
            ledger.acked_bulks,
            ledger.refused,
            ledger.unknown,
            findings.read,
            findings.lost,
            findings.half,
            findings.wrong,
        ];
        let mut row: Vec<Cell> = numbers.into_iter().map(Cell::Number).collect();
        row.push(Cell::Text(self.setup.durability().to_owned()));
        printer.row(&row)?;
        printer.end().map(|_rows| ())
    }
}

/// The nodes that a round kills.
fn victims(round: u32, nodes: usize) -> Vec<usize> {
    if round % ROUND_OF_ALL == ROUND_OF_ALL - 1 {
        return (0..nodes).collect();
    }
    vec![round as usize % nodes]
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write_until(
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    mut client: Client,
    writer: usize,
) {
    for name in (0..NAMES_PER_WRITER).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Where all keys rest there is nothing to do; others have their turn.
        tokio::task::yield_now().await;
        let Some(number) = lock(&ledger).fates[writer][name].begin() else { continue };
        let outcome = client.call(&write(writer, name, number)).await;
        lock(&ledger).note(writer, name, &outcome);
        if let Err(Error::Refused(_)) = outcome {
            sleep_until(Instant::now() + REFUSED_PAUSE).await;
        }
    }
}

fn is_bulk(writer: usize) -> bool {
    writer.is_multiple_of(BULK_WRITERS)
}

/// The keys that one fate is about. Those of a batch lie together.
fn keys(writer: usize, name: usize) -> Vec<String> {
    if is_bulk(writer) {
        (0..BULK_KEYS).map(|part| format!("{{bulk:{writer}:{name}}}{part}")).collect()
    } else {
        vec![format!("single:{writer}:{name}")]
    }
}

fn write(writer: usize, name: usize, number: u64) -> Call {
    let (keys, value) = (keys(writer, name), number.to_string());
    if is_bulk(writer) {
        let items: Vec<(&String, &String)> = keys.iter().map(|key| (key, &value)).collect();
        Call::bulk_set(&items)
    } else {
        Call::set(keys[0].as_bytes(), value.as_bytes())
    }
}

impl Ledger {
    fn note(&mut self, writer: usize, name: usize, outcome: &Result<Answer, Error>) {
        let fate = &mut self.fates[writer][name];
        match outcome {
            Ok(_) => {
                fate.on_acked();
                let acked =
                    if is_bulk(writer) { &mut self.acked_bulks } else { &mut self.acked_writes };
                *acked += 1;
            }
            Err(Error::Refused(_)) => {
                fate.on_refused();
                self.refused += 1;
            }
            Err(Error::Unknown(_)) => {
                fate.on_unknown();
                self.unknown += 1;
            }
        }
    }
}

/// Reads every key from all of its replicas, and judges it.
async fn check(
    ledger: &Mutex<Ledger>,
    addrs: &[String],
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut client = Client::new(addrs);
    let deadline = Instant::now() + READ_WITHIN;
    let writers = lock(ledger).fates.len();
    for writer in 0..writers {
        let names: Vec<Vec<String>> =
            (0..NAMES_PER_WRITER).map(|name| keys(writer, name)).collect();
        let all: Vec<&String> = names.iter().flatten().collect();
        let mut numbers = Vec::with_capacity(all.len());
        for some in all.chunks(READS_AT_ONCE) {
            numbers.extend(read(&mut client, some, deadline).await?);
        }
        findings.read += numbers.len() as u64;
        let mut ledger = lock(ledger);
        let found = numbers.chunks(names[0].len());
        for ((fate, keys), found) in ledger.fates[writer].iter_mut().zip(&names).zip(found) {
            let before = fate.clone();
            findings.note(fate.judge(found), || format!("{}: {found:?}, {before:?}", keys[0]));
        }
    }
    Ok(())
}

/// The number that each of the keys holds; 0 where it is absent.
async fn read(
    client: &mut Client,
    keys: &[&String],
    deadline: Instant,
) -> Result<Vec<u64>, Failure> {
    let mut numbers = vec![None; keys.len()];
    loop {
        let waiting: Vec<usize> = (0..keys.len()).filter(|&at| numbers[at].is_none()).collect();
        if waiting.is_empty() {
            return Ok(numbers.into_iter().flatten().collect());
        }
        let get = |&at: &usize| Call::get(keys[at].as_bytes()).level(Level::All);
        let calls: Vec<Call> = waiting.iter().map(get).collect();
        for (at, outcome) in waiting.iter().zip(client.pipeline(&calls).await) {
            match outcome {
                Ok(answer) => numbers[*at] = Some(number(&answer)?),
                // The replicas may not have found each other again.
                Err(error) if Instant::now() >= deadline => {
                    let text = format!("{} cannot be read from all replicas: {error}", keys[*at]);
                    return Err(Failure::Failed(text));
                }
                Err(_) => {}
            }
        }
    }
}

fn number(answer: &Answer) -> Result<u64, Failure> {
    let Some(value) = answer.value().map_err(Failure::unreadable)? else { return Ok(0) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Failure::Failed(String::from("a key holds what nobody wrote")))
}

impl Findings {
    fn note(&mut self, verdict: Verdict, complaint: impl FnOnce() -> String) {
        let (count, what) = match verdict {
            Verdict::Kept => return,
            Verdict::Lost => (&mut self.lost, "lost"),
            Verdict::Wrong => (&mut self.wrong, "refused or never written, and there"),
            Verdict::Half => (&mut self.half, "half of a batch"),
        };
        *count += 1;
        if self.complaints.len() < COMPLAINTS_SHOWN {
            self.complaints.push(format!("{what}: {}", complaint()));
        }
    }
}

fn verdict(findings: &Findings) -> Result<(), Failure> {
    if findings.complaints.is_empty() {
        return Ok(());
    }
    let wrong = findings.lost + findings.wrong + findings.half;
    Err(Failure::Failed(format!(
        "{wrong} keys or batches do not hold what they must:\n  {}",
        findings.complaints.join("\n  ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_round_kills_all_nodes_and_the_others_take_turns() {
        assert_eq!(victims(0, 3), [0]);
        assert_eq!(victims(1, 3), [1]);
        assert_eq!(victims(2, 3), [0, 1, 2]);
        assert_eq!(victims(4, 3), [1]);
        assert_eq!(victims(3, 1), [0]);
    }

    #[test]
    fn a_loss_is_a_failure_that_names_the_key() {
        let mut findings = Findings::default();
        findings.note(Verdict::Kept, || unreachable!("nothing to complain of"));
        assert!(verdict(&findings).is_ok());
        findings.note(Verdict::Lost, || String::from("single:1:2"));
        let failure = verdict(&findings).unwrap_err();
        assert_eq!(failure.code(), 1);
        assert!(failure.to_string().contains("lost: single:1:2"), "{failure}");
    }
}
