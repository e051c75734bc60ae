//! `scan`: keys of the whole cluster, in the order of the ring.

use std::io;

use clap::Args;

use super::client::{ClientFlags, ReadLevel};
use super::failure::Failure;
use super::output::{Cell, Printer};
use super::pages::{self, Content, Filter};
use crate::limits;

/// Arguments of `scan`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage scan                              the first 1,000 keys
  peerage scan --prefix user: --limit 20
  peerage scan --match 'user:*:name' --values -o csv
  peerage scan --cursor 4611686018427387904 go on where a scan ended, at any node

Keys come in the order of the ring, which is the same on every node and says nothing about their
names. A key that is there from the first page to the last is shown exactly once.")]
pub(crate) struct Scan {
    #[command(flatten)]
    filter: Filter,
    /// Keys to show at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Where to begin: the cursor that a scan before ended with
    #[arg(long, default_value_t = 0)]
    cursor: u64,
    /// Show values too
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    level: ReadLevel,
    #[command(flatten)]
    client: ClientFlags,
}

impl Scan {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut client = self.client.client()?;
        let columns: &'static [&'static str] =
            if self.values { &["key", "value"] } else { &["key"] };
        let content = if self.values { Content::KeysAndValues } else { Content::Keys };
        let mut printer = Printer::new(self.client.format(), columns, io::stdout().lock());
        let (mut cursor, mut left) = (self.cursor, self.limit);
        let next = loop {
            let limit = left.min(limits::PAGE_KEYS_MAX as u64);
            let part = (cursor, limit);
            let page = pages::page(&mut client, &self.filter, &self.level, content, part)?;
            left = left.saturating_sub(page.records.len() as u64);
            for record in page.records {
                let mut row = vec![Cell::Bytes(record.key)];
                if self.values {
                    row.push(Cell::Bytes(record.value));
                }
                printer.row(&row).map_err(Failure::output)?;
            }
            match page.next {
                Some(next) if left > 0 => cursor = next,
                next => break next,
            }
        };
        let shown = printer.end().map_err(Failure::output)?;
        if let Some(next) = next {
            eprintln!("peerage: {shown} keys shown; there may be more from --cursor {next}");
        }
        Ok(())
    }
}
