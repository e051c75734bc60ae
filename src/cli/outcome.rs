//! `outcome`: what became of a write, by its id.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;

use super::argument;
use super::client::ClientFlags;
use super::failure::Failure;
use super::output::{Cell, Printer};
use super::request_id::parse;
use super::text;
use crate::api::RequestId;
use crate::client::{Answer, Call};

/// Arguments of `outcome`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage outcome 01977a534b7c7def8123456789abcdef user:1

Asks every replica of KEY what became of the write that had this id: a message about an unknown
outcome shows it. `applied`: a replica knows of it. `not_applied`: none does, and from now on none
will take it. `unknown`: a replica did not answer, or may have forgotten it; ask again, or read the
key. Nodes remember a write for ten minutes.
Exit code 0: applied. 1: not applied, now or later. 3: not known.")]
pub(crate) struct Outcome {
    /// Id of the write
    #[arg(value_parser = parse)]
    id: RequestId,
    /// Key that it was to write; one of them for `bulk`
    key: OsString,
    /// KEY is in base64
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    client: ClientFlags,
}

impl Outcome {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let key = argument::bytes(&self.key, self.base64)?;
        let call = Call::read("OUTCOME").bytes(&[("key", &key)]);
        let answer = self.client.client()?.call(&call.text("request_id", &self.id.to_string()))?;
        self.show(key, &answer)
    }

    fn show(&self, key: Vec<u8>, answer: &Answer) -> Result<(), Failure> {
        let outcome = answer.text("outcome").unwrap_or_default();
        let detail = answer.text("detail").unwrap_or_default();
        let name = text::printable_cut(&key, 60);
        let mut out = io::stdout().lock();
        if let Some(format) = self.client.output {
            let mut printer = Printer::new(format, &["key", "outcome", "detail"], out);
            let row = [Cell::Bytes(key), Cell::Text(outcome.clone()), Cell::Text(detail.clone())];
            printer.row(&row).and_then(|()| printer.end()).map_err(Failure::output)?;
        } else {
            writeln!(out, "{outcome}").map_err(Failure::output)?;
        }
        match outcome.as_str() {
            "applied" => Ok(()),
            "not_applied" => Err(Failure::Failed(format!("{name}: {detail}."))),
            _ => Err(Failure::Unknown(format!("{name}: it is not known; {detail}."))),
        }
    }
}
