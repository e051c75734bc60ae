//! `sim list-faults`: what can go wrong in a scenario, and which mistakes can be planted.

use std::io;

use clap::Args;

use super::super::failure::Failure;
use super::super::output::{Cell, Format, Printer};
use crate::planted::Bug;
use crate::sim::{Area, CATALOGUE, Context, Kind};

/// Arguments of `sim list-faults`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage sim list-faults              what a step of a scenario can do to the world
  peerage sim list-faults -o jsonl
  peerage sim list-faults --planted    mistakes that `--planted NAME` puts into the code")]
pub(super) struct ListFaults {
    /// List the mistakes that can be planted instead
    #[arg(long)]
    planted: bool,
    /// How the list is written [default: a table on a terminal, jsonl elsewhere]
    #[arg(long, short, value_enum)]
    output: Option<Format>,
}

/// What is told of each fault.
const COLUMNS: [&str; 5] = ["name", "of", "does", "takes", "waits_for"];

impl ListFaults {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let format = self.output.unwrap_or_else(Format::default_for_stdout);
        self.list(format).map_err(Failure::output)
    }

    fn list(&self, format: Format) -> io::Result<()> {
        let text = |words: &str| Cell::Text(String::from(words));
        if self.planted {
            let mut printer = Printer::new(format, &["name", "does"], io::stdout().lock());
            for bug in Bug::ALL {
                printer.row(&[text(bug.name()), text(bug.about().trim())])?;
            }
            printer.end()?;
            return Ok(());
        }
        let mut printer = Printer::new(format, &COLUMNS, io::stdout().lock());
        for Kind { name, area, does, fields, waits_for } in CATALOGUE {
            let takes: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
            let waits_for = text(waits_for.unwrap_or_default());
            printer.row(&[
                text(name),
                text(area.name()),
                text(does),
                text(&takes.join(" ")),
                waits_for,
            ])?;
        }
        // What is wrong with these is what their writer says that it has seen.
        for (word, _, does) in Context::ALL {
            let name = format!("context = \"{word}\"");
            let (name, does) = (text(&name), text(&format!("a writer {does}")));
            printer.row(&[name, text(Area::Client.name()), does, text("of a write"), text("")])?;
        }
        printer.end()?;
        Ok(())
    }
}
