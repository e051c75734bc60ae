//! `export`: the whole cluster, or a part of it, as JSON lines.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};

use clap::Args;

use super::client::{ClientFlags, ReadLevel};
use super::failure::Failure;
use super::output::{Cell, Printer};
use super::pages::{self, Content, Filter};
use super::progress::Progress;
use super::record::Values;
use super::text;
use crate::limits;

/// Arguments of `export`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Each line is {\"key\":K,\"value\":V}, in the order of the ring. A key or value that is not UTF-8
puts its line in base64 and says so. What is exported so can be imported again, byte for byte.

Examples:
  peerage export > all.jsonl
  peerage export all.jsonl --prefix user:
  peerage export --json-values packages.jsonl   values as JSON, not as strings that hold JSON
  peerage export - --addr 127.0.0.1:6380 | sort > sorted.jsonl

With --json-values every value must be JSON: use it for what `import --json-values` has stored.
A value that is not JSON is listed, left out, and makes the exit code 1.
Values that are written while the export runs may or may not be in it.")]
pub(crate) struct Export {
    /// File to write; - is stdout
    #[arg(default_value = "-")]
    file: String,
    /// Write every value as the JSON that it is, not as a string
    #[arg(long)]
    json_values: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    level: ReadLevel,
    #[command(flatten)]
    client: ClientFlags,
}

/// Bits of a token that the progress bar leaves out: the rest fits any arithmetic on it.
const TOKEN_SHIFT: u32 = 44;
/// Values left out that are shown; the rest are counted.
const FAILURES_SHOWN: u64 = 20;

impl Export {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        if self.file == "-" && self.client.output.is_some() {
            return Err(Failure::Usage(String::from(
                "--output shows a summary and needs stdout: name a FILE for the lines",
            )));
        }
        let progress = if self.file == "-" && io::stdout().is_terminal() {
            Progress::silent("export")
        } else {
            Progress::start("export", Some(u64::MAX >> TOKEN_SHIFT))
        };
        let (count, left_out) = if self.file == "-" {
            self.write(BufWriter::new(io::stdout().lock()), &progress)?
        } else {
            let file = File::create(&self.file)
                .map_err(|error| Failure::Usage(format!("cannot create {}: {error}", self.file)))?;
            self.write(BufWriter::new(file), &progress)?
        };
        eprintln!("export: {}", progress.finish());
        if let Some(format) = self.client.output {
            let mut printer = Printer::new(format, &["exported", "left_out"], io::stdout().lock());
            let row = [Cell::Number(count), Cell::Number(left_out)];
            printer.row(&row).and_then(|()| printer.end()).map_err(Failure::output)?;
        }
        if left_out > 0 {
            return Err(Failure::Failed(format!(
                "{left_out} values are not JSON and were left out; export without --json-values \
                 to have them too"
            )));
        }
        Ok(())
    }

    /// Writes every line; gives the number of lines and of values left out.
    fn write(&self, mut out: impl Write, progress: &Progress) -> Result<(u64, u64), Failure> {
        let mut client = self.client.client()?;
        let values = Values::from_flag(self.json_values);
        let (mut count, mut left_out) = (0, 0);
        let mut next = Some(0);
        while let Some(cursor) = next {
            let part = (cursor, limits::PAGE_KEYS_MAX as u64);
            let content = Content::KeysAndValues;
            let page = pages::page(&mut client, &self.filter, &self.level, content, part)
                .map_err(|failure| broken_off(count, failure))?;
            let before = count;
            for record in &page.records {
                match record.line(values) {
                    Ok(line) => {
                        writeln!(out, "{line}").map_err(Failure::output)?;
                        count += 1;
                    }
                    Err(why) => {
                        left_out += 1;
                        if left_out <= FAILURES_SHOWN {
                            let key = text::printable_cut(&record.key, 60);
                            eprintln!("export: {key}: {why}");
                        }
                    }
                }
            }
            next = page.next;
            progress.reach(count - before, next.unwrap_or(u64::MAX) >> TOKEN_SHIFT);
        }
        out.flush().map_err(Failure::output)?;
        Ok((count, left_out))
    }
}

fn broken_off(count: u64, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(why) => Failure::Failed(format!(
            "the export was broken off after {count} keys, the file is not whole: {why}"
        )),
        Failure::Usage(_) | Failure::Unknown(_) | Failure::OutputClosed => failure,
    }
}
