//! `import`: JSON lines into the cluster, over a few connections at once.

use std::fs;
use std::io;

use clap::Args;

use super::client::{ClientFlags, WriteLevel};
use super::failure::Failure;
use super::output::{Cell, Printer};
use super::pipeline::{Pipeline, Route, Tally};
use super::progress::Progress;
use super::record::{self, Record, Values};

/// Arguments of `import`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Each line of FILE is {\"key\":K,\"value\":V}. A string is stored as its characters, any other
value as its compact JSON text, numbers exactly as written. With \"encoding\":\"base64\" in the
line, key and value are base64 of any bytes. Other fields and blank lines are ignored.

Examples:
  peerage import packages.jsonl
  peerage import packages.jsonl --addr 127.0.0.1:6379,127.0.0.1:6380
  zcat dump.jsonl.gz | peerage import -
  peerage import data.jsonl --json-values      then `export --json-values` gives the same lines
  peerage import data.jsonl --from-line 4001   go on where an import was broken off

Nodes that are overloaded or away are tried again for about a minute. Where a key appears twice,
its last line wins. An import may be repeated: it writes the same values once more.
Exit code 1: the lines that are listed were not stored. 3: of some lines it is not known.")]
pub(crate) struct Import {
    /// JSON lines to write; - reads stdin
    file: String,
    /// Store every value as its JSON text, strings with their quotes
    #[arg(long)]
    json_values: bool,
    /// Skip the lines before this one
    #[arg(long, value_name = "LINE", default_value_t = 1)]
    from_line: u64,
    /// Connections, spread over the nodes of --addr
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    #[command(flatten)]
    level: WriteLevel,
    #[command(flatten)]
    client: ClientFlags,
}

/// Failed lines that are shown; the rest are counted.
const FAILURES_SHOWN: usize = 20;

impl Import {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let source = record::open(&self.file)?;
        let length = fs::metadata(&self.file).ok().filter(fs::Metadata::is_file);
        let progress = Progress::start("import", length.map(|metadata| metadata.len()));
        let route = Route {
            addrs: self.client.addr.clone(),
            level: self.level.clone(),
            timeout_ms: self.client.timeout_ms,
        };
        let mut pipeline = Pipeline::new(route, usize::from(self.connections));
        let read = pipeline.run(&progress, |feed| self.feed(source, feed, &progress));
        let tally = pipeline.into_tally();
        let summary = progress.finish();
        self.show(&tally, &summary)?;
        read?;
        self.verdict(&tally)
    }

    /// Reads lines to the end, or until the pipeline takes no more.
    fn feed(
        &self,
        mut source: Box<dyn io::BufRead + Send>,
        feed: &mut super::pipeline::Feed<'_>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let values = Values::from_flag(self.json_values);
        let mut number = 0;
        while let Some(line) = record::next_line(&mut source, &mut number)? {
            let bytes = line.as_ref().map_or(0, |text| text.len() as u64);
            if number < self.from_line {
                progress.advance(0, bytes);
                continue;
            }
            match line.and_then(|text| Record::parse(&text, values)) {
                Ok(record) => {
                    if !feed.give(number, bytes, record) {
                        break;
                    }
                }
                Err(why) => feed.fail(number, why),
            }
        }
        Ok(())
    }

    fn show(&self, tally: &Tally, summary: &str) -> Result<(), Failure> {
        eprintln!("import: {summary}; {} lines failed", tally.failed);
        for (line, why) in tally.failures.iter().take(FAILURES_SHOWN) {
            eprintln!("  line {line}: {why}");
        }
        if tally.failed > FAILURES_SHOWN as u64 {
            eprintln!("  and {} more", tally.failed - FAILURES_SHOWN as u64);
        }
        let Some(format) = self.client.output else { return Ok(()) };
        let columns = &["stored", "failed", "retried"];
        let mut printer = Printer::new(format, columns, io::stdout().lock());
        let row = [tally.stored, tally.failed, tally.retried].map(Cell::Number);
        printer.row(&row).and_then(|()| printer.end()).map_err(Failure::output)?;
        Ok(())
    }

    fn verdict(&self, tally: &Tally) -> Result<(), Failure> {
        if let Some(stop) = &tally.stop {
            let text = format!(
                "the import was broken off: {}\n  {} keys are stored. Go on with: peerage \
                 import {} --from-line {}",
                stop.why, tally.stored, self.file, stop.line
            );
            return Err(if stop.unknown { Failure::Unknown(text) } else { Failure::Failed(text) });
        }
        if tally.failed > 0 {
            return Err(Failure::Failed(format!(
                "{} lines were not stored; all others were. Mend them and import them again.",
                tally.failed
            )));
        }
        Ok(())
    }
}
