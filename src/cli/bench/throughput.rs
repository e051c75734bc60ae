//! `bench throughput`: closed loops over sizes, operations and protocols.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::interval;

use super::TICK;
use super::machine;
use super::nodes::{NodeFlags, Nodes};
use crate::cli::client::parse_addr;
use crate::cli::failure::Failure;
use crate::cli::output::{Cell, Format, Printer};
use crate::cli::progress::Progress;
use crate::load::{self, Count, Json, Mix, Plan, Resp, Tally, Wire};

/// Requests that a fill sends at once.
const FILL_PIPELINE: usize = 64;
/// Longest time that a fill may take.
const FILL_WITHIN: Duration = Duration::from_mins(10);
/// Keys that are drawn from where there are none beforehand.
const KEYS_OF_NOTHING: u64 = 1_000_000;
/// Where the draws of keys start: the same in every run.
const SEED: u64 = 1;

/// Arguments of `bench throughput`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Without --addr it starts nodes of its own, new ones for each size, and removes them at the end. The
nodes of --addr are measured as they are: keys are added to those that they have, and stay.

Every connection sends --pipeline requests, waits for all replies, and goes on. SERVER_CPU_US is the
time that one operation kept all nodes on a processor, where this machine tells it; GENERATOR says
how busy this process was: near 100 % the nodes could do more than was asked of them.

Examples:
  peerage bench throughput
  peerage bench throughput --sizes 0,1000 --operations get,set --protocols resp --pipeline 16
  peerage bench throughput --nodes 3 --clients 16 --durability interval -o json")]
pub(crate) struct Throughput {
    /// Nodes to measure, in place of nodes of its own
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = parse_addr)]
    #[arg(conflicts_with_all = ["nodes", "shards", "durability", "data_dir"])]
    addr: Vec<String>,
    /// Nodes to start
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    #[command(flatten)]
    setup: NodeFlags,
    /// Keys beforehand; requests are for these keys. With 0 they are for a million absent ones
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    #[arg(default_values_t = [0, 1_000, 10_000, 100_000, 1_000_000])]
    sizes: Vec<u64>,
    /// What to measure
    #[arg(long, value_name = "OPERATION", value_delimiter = ',')]
    #[arg(default_values = ["get", "set", "mixed", "bulk"])]
    operations: Vec<Operation>,
    /// Protocols to speak
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',')]
    #[arg(default_values = ["json", "resp"])]
    protocols: Vec<Protocol>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// Requests that a connection sends at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pipeline: u16,
    /// Bytes of a value
    #[arg(long, value_name = "N", default_value_t = 100)]
    value_bytes: usize,
    /// Keys of a batch
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=10_000))]
    bulk_keys: u16,
    /// Seconds of each measurement
    #[arg(long, value_name = "S", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// How results are written [default: table on a terminal, jsonl elsewhere]
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Reads
    Get,
    /// Writes
    Set,
    /// Reads and writes, one half each
    Mixed,
    /// Batches, all or nothing
    Bulk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// Newline-JSON
    Json,
    /// RESP2, as Redis speaks it
    Resp,
}

const COLUMNS: [&str; 16] = [
    "keys",
    "operation",
    "protocol",
    "clients",
    "pipeline",
    "ops_per_s",
    "keys_per_s",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "server_cpu_us",
    "generator",
    "absent",
    "failed",
];

/// One measurement, with what it cost.
struct Measured {
    tally: Tally,
    /// On all nodes, where it can be read.
    server_cpu: Option<Duration>,
    generator_cpu: Option<Duration>,
}

impl Throughput {
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let runs = self.sizes.len() * self.operations.len() * self.protocols.len();
        let length_ms = runs as u64 * self.seconds * 1_000;
        let progress = Progress::of("bench", "requests", Some(length_ms));
        let format = self.output.unwrap_or_else(Format::default_for_stdout);
        let mut printer = Printer::new(format, &COLUMNS, Vec::new());
        let mut facts = None;
        let mut nothing_done = None;
        for &keys in &self.sizes {
            let nodes = if self.addr.is_empty() {
                Some(Nodes::start(usize::from(self.nodes), &self.setup).await?)
            } else {
                None
            };
            let addrs = nodes.as_ref().map_or_else(|| self.addr.clone(), Nodes::addrs);
            let pids = nodes.as_ref().map_or_else(|| pids_of(&addrs), Nodes::pids);
            if facts.is_none() {
                let machine = machine::machine(nodes.as_ref().map(Nodes::data_dir));
                facts = Some((machine, machine::set_up(&addrs).await));
            }
            self.fill(&addrs, keys, &progress).await?;
            for &operation in &self.operations {
                for &protocol in &self.protocols {
                    let plan = self.plan(&addrs, keys, operation);
                    let measured = measure(&plan, protocol, &pids, &progress).await?;
                    if measured.tally.done == 0 {
                        nothing_done.clone_from(&measured.tally.first_failure);
                    }
                    let row = self.row(keys, operation, protocol, &measured);
                    printer.row(&row).map_err(Failure::output)?;
                    warn(&measured.tally, &progress);
                }
            }
        }
        eprintln!("bench: {}", progress.finish());
        let (machine, set_up) = facts.unwrap_or_default();
        show(printer, format, &machine, &set_up).map_err(Failure::output)?;
        match nothing_done {
            None => Ok(()),
            Some(why) => Err(Failure::Failed(format!("no request was done: {why}"))),
        }
    }

    async fn fill(&self, addrs: &[String], keys: u64, progress: &Progress) -> Result<(), Failure> {
        if keys == 0 {
            return Ok(());
        }
        progress.stand(format!("filling {keys} keys"));
        let plan = Plan {
            addrs: addrs.to_vec(),
            clients: usize::from(self.clients),
            pipeline: FILL_PIPELINE,
            time: FILL_WITHIN,
            mix: Mix::Fill,
            keys,
            value_bytes: self.value_bytes,
            seed: SEED,
        };
        let tally = watched(&plan, || Resp, progress, 0).await?;
        if tally.done == keys {
            return Ok(());
        }
        let why = tally.first_failure.unwrap_or_else(|| String::from("the time ran out"));
        Err(Failure::Failed(format!("only {} of {keys} keys could be filled: {why}", tally.done)))
    }

    fn plan(&self, addrs: &[String], keys: u64, operation: Operation) -> Plan {
        let keys = if keys == 0 { KEYS_OF_NOTHING } else { keys };
        let bulk_keys = usize::from(self.bulk_keys);
        let (mix, keys) = match operation {
            Operation::Get => (Mix::Get, keys),
            Operation::Set => (Mix::Set, keys),
            Operation::Mixed => (Mix::Mixed, keys),
            Operation::Bulk => (Mix::Bulk(bulk_keys), keys.div_ceil(u64::from(self.bulk_keys))),
        };
        Plan {
            addrs: addrs.to_vec(),
            clients: usize::from(self.clients),
            pipeline: usize::from(self.pipeline),
            time: Duration::from_secs(self.seconds),
            mix,
            keys,
            value_bytes: self.value_bytes,
            seed: SEED,
        }
    }

    fn row(
        &self,
        keys: u64,
        operation: Operation,
        protocol: Protocol,
        measured: &Measured,
    ) -> [Cell; 16] {
        let tally = &measured.tally;
        let per_second = |count: u64| Cell::Number(per_second(count, tally.elapsed));
        let latency = |share: f64| micros(tally.latency.value_at_quantile(share));
        let keys_of_one = if operation == Operation::Bulk { u64::from(self.bulk_keys) } else { 1 };
        let cpu = measured.server_cpu.and_then(|cpu| cpu_of_one(cpu, tally.done));
        let busy = measured.generator_cpu.map(|cpu| percent(cpu, tally.elapsed));
        [
            Cell::Number(keys),
            Cell::Text(word(&operation)),
            Cell::Text(word(&protocol)),
            Cell::Number(u64::from(self.clients)),
            Cell::Number(u64::from(self.pipeline)),
            per_second(tally.done),
            per_second(tally.done * keys_of_one),
            latency(0.5),
            latency(0.9),
            latency(0.99),
            latency(0.999),
            micros(tally.latency.max()),
            cpu.map_or(Cell::Nothing, Cell::Json),
            busy.map_or(Cell::Nothing, Cell::Text),
            Cell::Number(tally.absent),
            Cell::Number(tally.failed),
        ]
    }
}

async fn measure(
    plan: &Plan,
    protocol: Protocol,
    pids: &[u32],
    progress: &Progress,
) -> Result<Measured, Failure> {
    progress.stand(format!("{:?} {}, {} keys", plan.mix, word(&protocol), plan.keys));
    let own = std::process::id();
    let before = (cpu_of(pids), load::cpu_time(own));
    let time_ms = u64::try_from(plan.time.as_millis()).unwrap_or(u64::MAX);
    let tally = match protocol {
        Protocol::Json => watched(plan, || Json, progress, time_ms).await?,
        Protocol::Resp => watched(plan, || Resp, progress, time_ms).await?,
    };
    let between = |before: Option<Duration>, after: Option<Duration>| after?.checked_sub(before?);
    Ok(Measured {
        tally,
        server_cpu: between(before.0, cpu_of(pids)),
        generator_cpu: between(before.1, load::cpu_time(own)),
    })
}

/// Runs the loops while the progress is shown, which comes forward by `units` in all.
async fn watched<W: Wire>(
    plan: &Plan,
    wire: impl Fn() -> W,
    progress: &Progress,
    units: u64,
) -> Result<Tally, Failure> {
    let count = Count::default();
    let loops = load::run(plan, wire, &count);
    tokio::pin!(loops);
    let mut ticks = interval(TICK);
    let (mut seen, mut shown) = (0, 0);
    let tick_units = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
    loop {
        let done = tokio::select! {
            done = &mut loops => Some(done.map_err(Failure::Failed)?),
            _ = ticks.tick() => None,
        };
        let now = count.now();
        let step = if done.is_some() { units - shown } else { tick_units.min(units - shown) };
        progress.advance(now - seen, step);
        (seen, shown) = (now, shown + step);
        if let Some(tally) = done {
            return Ok(tally);
        }
    }
}

/// The processes of this machine that serve these addresses; none if one of them is not known.
fn pids_of(addrs: &[String]) -> Vec<u32> {
    let port = |addr: &String| addr.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let pids: Option<Vec<u32>> =
        addrs.iter().map(|addr| port(addr).and_then(load::listener)).collect();
    pids.unwrap_or_default()
}

fn cpu_of(pids: &[u32]) -> Option<Duration> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().map(|pid| load::cpu_time(*pid)).sum()
}

fn per_second(count: u64, time: Duration) -> u64 {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    count.saturating_mul(1_000_000) / us
}

fn percent(part: Duration, whole: Duration) -> String {
    format!("{} %", part.as_micros() * 100 / whole.as_micros().max(1))
}

/// Microseconds with two digits behind the point.
fn cpu_of_one(cpu: Duration, count: u64) -> Option<String> {
    let hundredths = u64::try_from(cpu.as_nanos()).ok()?.checked_div(count)? / 10;
    Some(format!("{}.{:02}", hundredths / 100, hundredths % 100))
}

fn micros(ns: u64) -> Cell {
    Cell::Number(ns / 1_000)
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |word| word.get_name().to_owned())
}

fn warn(tally: &Tally, progress: &Progress) {
    if let Some(why) = tally.first_failure.as_ref().filter(|_| tally.failed > 0) {
        progress.beside(|| eprintln!("bench: {} requests failed: {why}", tally.failed));
    }
}

fn show(
    printer: Printer<Vec<u8>>,
    format: Format,
    machine: &machine::Facts,
    set_up: &machine::Facts,
) -> io::Result<()> {
    let rows = printer.finish()?;
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            let (machine, set_up) = (machine::json(machine), machine::json(set_up));
            let rows = String::from_utf8_lossy(&rows);
            write!(
                out,
                "{{\"machine\":{machine},\n\"set_up\":{set_up},\n\"results\":{}}}\n",
                rows.trim_end()
            )
        }
        Format::Table => {
            writeln!(out, "{}\n{}\n", machine::line(machine), machine::line(set_up))?;
            out.write_all(&rows)
        }
        Format::Jsonl | Format::Csv => {
            eprintln!("{}\n{}", machine::line(machine), machine::line(set_up));
            out.write_all(&rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_one_is_rounded_down_to_hundredths() {
        assert_eq!(cpu_of_one(Duration::from_micros(25), 3).as_deref(), Some("8.33"));
        assert_eq!(cpu_of_one(Duration::from_nanos(1_059), 1).as_deref(), Some("1.05"));
        assert_eq!(cpu_of_one(Duration::from_secs(1), 0), None);
        assert_eq!(per_second(10, Duration::from_millis(500)), 20);
        assert_eq!(percent(Duration::from_millis(1), Duration::from_millis(3)), "33 %");
    }
}
