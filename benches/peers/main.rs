//! Peerage beside Redis and etcd: one generator, one payload, as many connections, in one run.
//!
//! All systems are started first and measured in slices that take turns, in a new order each time,
//! so that what the machine does besides meets all of them alike. Each figure is the median of its
//! slices. `benches/peers/run.sh` gets what is missing and runs this.

mod etcd;
mod servers;

use std::time::Duration;

use clap::Parser;
use peerage::load::{Mix, Plan};

use servers::{Protocol, Running, SYSTEMS, System};

/// Keys that a fill sends at once, where the protocol takes more than one.
const FILL_PIPELINE: usize = 16;
/// Longest time that a fill may take.
const FILL_WITHIN: Duration = Duration::from_mins(5);

#[derive(Parser, Debug)]
#[command(about = "Peerage beside Redis and etcd, driven alike")]
struct Arguments {
    /// Connections
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Requests that a connection sends at once; etcd takes one
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Keys that the requests draw from, all there beforehand
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Seconds of a slice
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Slices of each system and operation
    #[arg(long, default_value_t = 5)]
    slices: usize,
    /// Nodes of a cluster; Redis, which is none, is left out above one
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Only systems with one of these names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// One slice.
#[derive(Clone, Copy, Debug)]
struct Slice {
    ops_per_s: u64,
    p50_us: u64,
    p99_us: u64,
    /// Hundredths of a microsecond on a processor for one request; 0 where it cannot be read.
    cpu: u64,
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(compare(&arguments))
}

async fn compare(arguments: &Arguments) -> Result<(), String> {
    let wanted = |system: &&System| {
        let named = arguments.only.is_empty() || arguments.only.iter().any(|n| n == system.name);
        named && (arguments.nodes == 1 || system.is_cluster())
    };
    let mut running = Vec::new();
    for system in SYSTEMS.iter().filter(wanted) {
        if system.program().is_none() {
            eprintln!("{} is not installed and is left out", system.name);
            continue;
        }
        let started = system.start(arguments.nodes).await;
        let started = started.map_err(|why| format!("{}: {why}", system.name))?;
        let plan = plan(arguments, system, Mix::Fill);
        let pipeline = plan.pipeline.max(fill_pipeline(system));
        let filled = started.run(&Plan { time: FILL_WITHIN, pipeline, ..plan }).await?;
        if filled.done != arguments.keys {
            return Err(format!("{}: {:?}", system.name, filled.first_failure));
        }
        eprintln!("{} ({}) is filled", system.name, system.durability);
        running.push(started);
    }
    println!(
        "{} nodes each, {} connections, pipeline {}, {} keys, values of {} bytes, \
         {} slices of {} s",
        arguments.nodes,
        arguments.clients,
        arguments.pipeline,
        arguments.keys,
        arguments.value_bytes,
        arguments.slices,
        arguments.seconds
    );
    for (name, mix) in [("SET", Mix::Set), ("GET", Mix::Get)] {
        let mut slices = vec![Vec::new(); running.len()];
        for turn in 0..arguments.slices {
            for step in 0..running.len() {
                let index = (turn + step) % running.len();
                slices[index].push(measure(arguments, &running[index], mix).await?);
            }
            eprintln!("{name}: slice {} of {}", turn + 1, arguments.slices);
        }
        show(name, &running, &slices);
    }
    Ok(())
}

fn fill_pipeline(system: &System) -> usize {
    if system.protocol == Protocol::Gateway { 1 } else { FILL_PIPELINE }
}

fn plan(arguments: &Arguments, system: &System, mix: Mix) -> Plan {
    let pipeline = if system.protocol == Protocol::Gateway { 1 } else { arguments.pipeline };
    Plan {
        addrs: Vec::new(),
        clients: arguments.clients,
        pipeline,
        time: Duration::from_secs(arguments.seconds),
        mix,
        keys: arguments.keys,
        value_bytes: arguments.value_bytes,
        seed: 1,
    }
}

async fn measure(arguments: &Arguments, running: &Running, mix: Mix) -> Result<Slice, String> {
    let before = running.cpu();
    let tally = running.run(&plan(arguments, &running.system, mix)).await?;
    let cpu = running.cpu().zip(before).and_then(|(after, before)| after.checked_sub(before));
    if tally.failed > 0 {
        return Err(format!("{}: {:?}", running.system.name, tally.first_failure));
    }
    let us = u64::try_from(tally.elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
    let cpu_ns = cpu.map_or(0, |cpu| u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX));
    Ok(Slice {
        ops_per_s: tally.done.saturating_mul(1_000_000) / us,
        p50_us: tally.latency.value_at_quantile(0.5) / 1_000,
        p99_us: tally.latency.value_at_quantile(0.99) / 1_000,
        cpu: cpu_ns / 10 / tally.done.max(1),
    })
}

/// A table in Markdown; ratios are to the first system.
fn show(name: &str, running: &[Running], slices: &[Vec<Slice>]) {
    let median = |slices: &[Slice], figure: fn(&Slice) -> u64| {
        let mut figures: Vec<u64> = slices.iter().map(figure).collect();
        figures.sort_unstable();
        figures[figures.len() / 2]
    };
    let hundredths = |number: u64| format!("{}.{:02}", number / 100, number % 100);
    let ratio = |part: u64, whole: u64| hundredths(part * 100 / whole.max(1));
    println!("\n| {name} | durability | ops/s | ratio | CPU us/op | ratio | p50 us | p99 us |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let ops = |slices: &[Slice]| median(slices, |slice| slice.ops_per_s);
    let cpu = |slices: &[Slice]| median(slices, |slice| slice.cpu);
    for (one, figures) in running.iter().zip(slices) {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            one.system.name,
            one.system.durability,
            ops(figures),
            ratio(ops(figures), ops(&slices[0])),
            hundredths(cpu(figures)),
            ratio(cpu(figures), cpu(&slices[0])),
            median(figures, |slice| slice.p50_us),
            median(figures, |slice| slice.p99_us),
        );
    }
}
