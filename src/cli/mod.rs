//! The command line: `serve`, `dev` and everything that a user asks of a running cluster.
//!
//! Data commands speak newline-JSON to any node, as any other client does; they have no way in
//! that others lack. Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the
//! operation failed, 2 bad usage, 3 it is not known whether a write was applied.

mod argument;
mod batch;
mod bench;
mod client;
mod client_settings;
mod dev;
mod export;
mod failure;
mod import;
mod inspect;
mod later;
mod outcome;
mod output;
mod pages;
mod pipeline;
mod point;
mod progress;
mod record;
mod request_id;
mod scan;
mod scratch;
mod secret;
mod serve;
mod settings;
mod sim;
mod text;
mod token;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use failure::Failure;

/// The command line of `peerage`.
#[derive(Parser, Debug)]
#[command(name = "peerage", version, propagate_version = true, max_term_width = 100)]
#[command(about = "A key-value store of equals: masterless and durable")]
#[command(long_about = "\
A key-value store of equals. Every node takes every request, for every key; a write is on the disks
of a majority of its replicas before it is acknowledged.")]
#[command(after_long_help = "\
A cluster in one process, to try it out:
  peerage dev

Three nodes that become one cluster, whatever order they are started in:
  peerage serve --port 6379 --data-dir d1 --seed 127.0.0.1:7380
  peerage serve --port 6380 --data-dir d2 --seed 127.0.0.1:7381
  peerage serve --port 6381 --data-dir d3 --seed 127.0.0.1:7379

Data, through any node:
  peerage set user:1 Ada --addr 127.0.0.1:6379
  peerage get user:1 --addr 127.0.0.1:6381
  peerage status

What happens when things go wrong, from a seed:
  peerage sim run --seed 17

Exit codes: 0 done, 1 the operation failed, 2 bad usage, 3 outcome unknown.
`peerage help COMMAND` has examples for each command. PEERAGE_LOG=debug shows more of `serve`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run one node
    Serve(Box<serve::Serve>),
    /// Run a whole cluster in this process, with a prompt to break and heal it
    Dev(dev::Dev),
    /// Read a key
    Get(point::Get),
    /// Write a key
    Set(point::Set),
    /// Delete keys
    Del(point::Del),
    /// Read several keys
    Mget(point::Mget),
    /// Write many keys at once, all or nothing
    Bulk(batch::Bulk),
    /// List keys
    Scan(scan::Scan),
    /// Write JSON lines into the cluster
    Import(import::Import),
    /// Write the keys and values of the cluster as JSON lines
    Export(export::Export),
    /// Show the cluster as a node sees it
    Status(inspect::Status),
    /// Show who owns which part of the ring
    Ring(inspect::Ring),
    /// Show where a key lies and what each replica holds of it
    Explain(inspect::Explain),
    /// Tell what became of a write
    Outcome(outcome::Outcome),
    /// List keys with several concurrent values
    Conflicts(inspect::Conflicts),
    /// Make a secret for the nodes of a cluster
    Secret(secret::SecretCommand),
    /// Make and list the tokens of clients
    Token(token::TokenCommand),
    /// Measure speed, and what is left after kill -9
    Bench(bench::Bench),
    /// Run whole clusters in virtual time, with everything going wrong that can
    Sim(sim::Sim),
}

/// Runs the command line of this process, and gives its exit code.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(refusal) = later::refusal(&args) {
        return refusal.report();
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are such errors too, with exit code 0; where nobody reads them
            // there is nothing left to do.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(command) => {
                show_logs("info");
                warn_of_unknown_variables();
                command.run()
            }
            Self::Dev(command) => {
                show_logs("error");
                command.run()
            }
            Self::Get(command) => command.run(),
            Self::Set(command) => command.run(),
            Self::Del(command) => command.run(),
            Self::Mget(command) => command.run(),
            Self::Bulk(command) => command.run(),
            Self::Scan(command) => command.run(),
            Self::Import(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Status(command) => command.run(),
            Self::Ring(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Outcome(command) => command.run(),
            Self::Conflicts(command) => command.run(),
            Self::Secret(command) => command.run(),
            Self::Token(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Sim(command) => command.run(),
        }
    }
}

/// Variables that stand for no flag: the filter of the log, and those of the tests.
const OWN_VARIABLES: [&str; 6] = [
    "PEERAGE_LOG",
    "PEERAGE_FULL",
    "PEERAGE_KEEP",
    "PEERAGE_TEST_SEED",
    secret::VARIABLE,
    token::VARIABLE,
];

/// A misspelt variable would be a setting that is silently not made.
fn warn_of_unknown_variables() {
    let known = known_variables(Cli::command());
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("PEERAGE_")) else {
            continue;
        };
        if !known.iter().any(|known| known == name) {
            eprintln!("peerage: the variable {name} means nothing here and is ignored");
        }
    }
}

fn known_variables(mut cli: clap::Command) -> Vec<String> {
    let mut known = OWN_VARIABLES.map(String::from).to_vec();
    for command in cli.get_subcommands_mut() {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    }
    known
}

/// Log lines go to stderr, at `level` unless `PEERAGE_LOG` says otherwise.
fn show_logs(level: &str) {
    let filter =
        EnvFilter::try_from_env("PEERAGE_LOG").unwrap_or_else(|_unset| EnvFilter::new(level));
    // Escape sequences in a file help nobody.
    let colours = io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let _ = logs.with_writer(io::stderr).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            assert!(help.contains(&format!("  peerage {name}")), "{name}: {help}");
        }
    }

    #[test]
    fn every_flag_of_serve_has_its_variable() {
        let known = known_variables(Cli::command());
        let mut cli = Cli::command();
        let serve = cli.find_subcommand_mut("serve").unwrap();
        for flag in serve.get_arguments().filter_map(clap::Arg::get_long) {
            let name = format!("PEERAGE_{}", flag.replace('-', "_").to_uppercase());
            assert!(known.contains(&name), "{name}");
        }
    }

    #[test]
    fn wrong_usage_is_told_before_anything_is_done() {
        for line in [
            "peerage",
            "peerage set k",
            "peerage set k v --value-file f",
            "peerage get",
            "peerage get k --level most",
            "peerage get k -r 256",
            "peerage get k --timeout-ms 0",
            "peerage get k -o xml",
            "peerage del",
            "peerage import",
            "peerage import f --connections 0",
            "peerage scan --limit 0",
            "peerage nonsense",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn values_may_begin_with_a_dash_and_addresses_may_be_listed() {
        let cli = Cli::try_parse_from(["peerage", "set", "k", "-5", "--addr", "a:1,b:2"]).unwrap();
        let Command::Set(set) = cli.command else { panic!("it is a set") };
        assert!(format!("{set:?}").contains(r#"["a:1", "b:2"]"#), "{set:?}");
    }
}
