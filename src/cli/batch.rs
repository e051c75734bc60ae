//! `bulk`: many keys at once, all or nothing.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};

use clap::Args;

use super::client::{ClientFlags, WriteLevel};
use super::failure::Failure;
use super::output::{Cell, Printer};
use super::record::{self, Record, Values};
use super::request_id::IdFlag;
use super::text;
use crate::client::Call;
use crate::limits;

/// Arguments of `bulk`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Each line of FILE is {\"key\":K,\"value\":V}, as for `import`. All of them are written, or none.

Examples:
  peerage bulk transfer.jsonl
  printf '{\"key\":\"{eve}a\",\"value\":7}\\n{\"key\":\"{eve}b\",\"value\":3}\\n' | peerage bulk -

A batch has at most 10,000 keys and 16 MiB, and no key twice. Where its keys lie on different
groups of nodes, a reader may for a moment see some of them new and others old: give them one {tag}
in braces, which puts them in one partition. With --isolated such a batch is refused instead.
For more data, or where the whole need not be atomic, use `peerage import`.
Exit code 1: nothing was applied. 3: it is not known whether it was applied, but never in part.")]
pub(crate) struct Bulk {
    /// JSON lines to write; - reads stdin
    file: String,
    /// Store every value as its JSON text, strings with their quotes
    #[arg(long)]
    json_values: bool,
    /// Refuse the batch where a reader might see some of its keys new and others old
    #[arg(long)]
    isolated: bool,
    #[command(flatten)]
    id: IdFlag,
    #[command(flatten)]
    level: WriteLevel,
    #[command(flatten)]
    client: ClientFlags,
}

impl Bulk {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let values = Values::from_flag(self.json_values);
        let records = read_batch(record::open(&self.file)?, values)?;
        let items: Vec<(&[u8], &[u8])> =
            records.iter().map(|record| (&record.key[..], &record.value[..])).collect();
        let call = self.id.apply(self.level.apply(Call::bulk_set(&items)))?;
        let call = if self.isolated { call.text("require", "isolated") } else { call };
        let answer = self.client.client()?.call(&call)?;
        let count = answer.number("count").unwrap_or_default();
        let mut out = io::stdout().lock();
        let Some(format) = self.client.output else {
            let how = match answer.raw("isolated") {
                Some(_) => "all of them; for a moment a reader may have seen old and new together",
                None => "all at once",
            };
            return writeln!(out, "{count} keys written, {how}").map_err(Failure::output);
        };
        let mut printer = Printer::new(format, &["count"], out);
        let row = [Cell::Number(count)];
        printer.row(&row).and_then(|()| printer.end()).map_err(Failure::output)?;
        Ok(())
    }
}

/// The whole batch, within its limits. Nothing is sent unless every line is good.
fn read_batch(mut source: impl BufRead, values: Values) -> Result<Vec<Record>, Failure> {
    let mut records: Vec<Record> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let mut number = 0;
    while let Some(line) = record::next_line(&mut source, &mut number)? {
        let wrong = |why| Failure::Failed(format!("line {number}: {why}. Nothing was applied."));
        let record = line.and_then(|text| Record::parse(&text, values)).map_err(wrong)?;
        bytes += record.key.len() + record.value.len();
        if !seen.insert(record.key.clone()) {
            let key = text::printable_cut(&record.key, 60);
            return Err(wrong(format!("the key {key} is in the batch twice")));
        }
        records.push(record);
        if records.len() > limits::BATCH_KEYS_MAX || bytes > limits::BATCH_BYTES_MAX {
            return Err(wrong(format!(
                "a batch has at most {} keys and {} bytes; use `peerage import` for more",
                limits::BATCH_KEYS_MAX,
                limits::BATCH_BYTES_MAX
            )));
        }
    }
    if records.is_empty() {
        return Err(Failure::Usage(String::from("the batch has no lines; nothing was sent")));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &str) -> Result<Vec<Record>, Failure> {
        read_batch(lines.as_bytes(), Values::Text)
    }

    #[test]
    fn a_batch_with_one_bad_line_is_not_sent() {
        let failure = batch("{\"key\":\"a\",\"value\":1}\n\n{\"key\":\"b\"}\n").unwrap_err();
        assert_eq!(failure.to_string(), "line 3: it has no value. Nothing was applied.");
        let failure =
            batch("{\"key\":\"a\",\"value\":1}\n{\"key\":\"a\",\"value\":2}\n").unwrap_err();
        assert!(failure.to_string().contains("line 2: the key a is in the batch twice"));
        assert_eq!(batch("").unwrap_err().code(), 2);
    }

    #[test]
    fn a_key_is_in_the_batch_twice_however_it_is_written() {
        let same = r#"{"key":"a","value":"b"}
            {"key":"YQ==","value":"/w==","encoding":"base64"}"#;
        assert!(batch(same).is_err(), "YQ== is the key a once more");
        let different = r#"{"key":"a","value":"b"}
            {"key":"Yg==","value":"/w==","encoding":"base64"}"#;
        assert_eq!(batch(different).unwrap().len(), 2);
    }
}
