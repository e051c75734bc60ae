//! Rows of results as a table, JSON, JSON lines or CSV.
//!
//! Keys and values are bytes. A row whose bytes are all UTF-8 shows them as text; a row with any
//! other byte shows all of them in base64 and says `"encoding":"base64"`, as the protocol does.
//! Source of the CSV rules: RFC 4180.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell as TableCell, ContentArrangement, Table, presets};

use super::text;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people; long values are cut
    Table,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values with a header line
    Csv,
}

/// One field of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A key or a value.
    Bytes(Vec<u8>),
    /// Words of ours.
    Text(String),
    /// A count or a position.
    Number(u64),
    /// Milliseconds since the Unix epoch; a date for people.
    Time(u64),
    /// A claim.
    Bool(bool),
    /// JSON text, compact.
    Json(String),
    /// Nothing: `null` in JSON, empty elsewhere.
    Nothing,
}

/// Characters of a value that a table shows.
const TABLE_VALUE_COLUMNS: usize = 72;
/// Blanks between two columns of a table.
const COLUMN_GAP: u16 = 2;

impl Format {
    /// What is used when the user asks for nothing: a table on a terminal, JSON lines elsewhere.
    pub(crate) fn default_for_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Table } else { Self::Jsonl }
    }
}

/// Writes rows as they come; a table is written at the end, when its widths are known.
pub(crate) struct Printer<W: Write> {
    format: Format,
    columns: &'static [&'static str],
    out: W,
    rows: usize,
    table: Table,
}

impl<W: Write> Printer<W> {
    /// A printer of rows with these columns.
    pub(crate) fn new(format: Format, columns: &'static [&'static str], out: W) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        // A table shows such a time as a date.
        let title = |name: &&str| TableCell::new(name.trim_end_matches("_ms").to_uppercase());
        table.set_header(columns.iter().map(title));
        for column in table.column_iter_mut() {
            column.set_padding((0, COLUMN_GAP));
        }
        Self { format, columns, out, rows: 0, table }
    }

    /// One row, with one cell for each column.
    pub(crate) fn row(&mut self, cells: &[Cell]) -> io::Result<()> {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        let base64 = cells.iter().any(Cell::is_binary);
        match self.format {
            Format::Table => {
                self.table.add_row(cells.iter().map(Cell::for_people));
            }
            Format::Jsonl => writeln!(self.out, "{}", self.object(cells, base64))?,
            Format::Json => {
                let before = if self.rows == 0 { "[" } else { "," };
                write!(self.out, "{before}\n  {}", self.object(cells, base64))?;
            }
            Format::Csv => {
                if self.rows == 0 {
                    writeln!(self.out, "{},encoding", self.columns.join(","))?;
                }
                let fields: Vec<String> = cells.iter().map(|cell| cell.for_csv(base64)).collect();
                let encoding = if base64 { "base64" } else { "" };
                writeln!(self.out, "{},{encoding}", fields.join(","))?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Writes what is left, and gives the number of rows.
    pub(crate) fn end(self) -> io::Result<usize> {
        let rows = self.rows;
        self.finish().map(|_out| rows)
    }

    /// Writes what is left, and gives what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        match self.format {
            Format::Table if self.rows > 0 => writeln!(self.out, "{}", self.table.trim_fmt())?,
            Format::Json if self.rows == 0 => writeln!(self.out, "[]")?,
            Format::Json => writeln!(self.out, "\n]")?,
            Format::Csv if self.rows == 0 => {
                writeln!(self.out, "{},encoding", self.columns.join(","))?;
            }
            Format::Table | Format::Jsonl | Format::Csv => {}
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn object(&self, cells: &[Cell], base64: bool) -> String {
        let mut fields: Vec<String> = self
            .columns
            .iter()
            .zip(cells)
            .map(|(name, cell)| format!("{}:{}", text::json_string(name), cell.for_json(base64)))
            .collect();
        if base64 {
            fields.push(String::from(r#""encoding":"base64""#));
        }
        format!("{{{}}}", fields.join(","))
    }
}

impl Cell {
    fn is_binary(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if std::str::from_utf8(bytes).is_err())
    }

    fn for_people(&self) -> String {
        match self {
            Self::Bytes(bytes) => text::printable_cut(bytes, TABLE_VALUE_COLUMNS),
            Self::Text(words) | Self::Json(words) => words.clone(),
            Self::Number(number) => number.to_string(),
            Self::Time(unix_ms) => text::utc(*unix_ms),
            Self::Bool(claim) => String::from(if *claim { "yes" } else { "no" }),
            Self::Nothing => String::new(),
        }
    }

    fn for_json(&self, base64: bool) -> String {
        match self {
            Self::Bytes(bytes) => text::json_string(&encoded(bytes, base64)),
            Self::Text(words) => text::json_string(words),
            Self::Number(number) | Self::Time(number) => number.to_string(),
            Self::Bool(claim) => claim.to_string(),
            Self::Json(json) => json.clone(),
            Self::Nothing => String::from("null"),
        }
    }

    fn for_csv(&self, base64: bool) -> String {
        match self {
            Self::Bytes(bytes) => csv_field(&encoded(bytes, base64)),
            Self::Text(words) | Self::Json(words) => csv_field(words),
            Self::Number(number) | Self::Time(number) => number.to_string(),
            Self::Bool(claim) => claim.to_string(),
            Self::Nothing => String::new(),
        }
    }
}

fn encoded(bytes: &[u8], base64: bool) -> String {
    if base64 { text::base64(bytes) } else { String::from_utf8_lossy(bytes).into_owned() }
}

fn csv_field(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        String::from(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: &[u8]) -> Cell {
        Cell::Bytes(bytes.to_vec())
    }

    fn check(format: Format, rows: &[[Cell; 3]], expected: &str) {
        let mut out = Vec::new();
        let mut printer = Printer::new(format, &["key", "value", "siblings"], &mut out);
        for row in rows {
            printer.row(row).unwrap();
        }
        printer.end().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    fn rows() -> [[Cell; 3]; 3] {
        [
            [bytes(b"a"), bytes(b"one, \"two\"\n"), Cell::Number(1)],
            [bytes(b"b"), bytes(b"\xff\x00"), Cell::Nothing],
            [bytes(b""), bytes("\u{e9}".as_bytes()), Cell::Json(String::from("[1.0]"))],
        ]
    }

    #[test]
    fn json_lines_say_which_rows_are_base64() {
        check(
            Format::Jsonl,
            &rows(),
            concat!(
                "{\"key\":\"a\",\"value\":\"one, \\\"two\\\"\\n\",\"siblings\":1}\n",
                "{\"key\":\"Yg==\",\"value\":\"/wA=\",\"siblings\":null,\"encoding\":\"base64\"}\n",
                "{\"key\":\"\",\"value\":\"\u{e9}\",\"siblings\":[1.0]}\n",
            ),
        );
    }

    #[test]
    fn json_is_one_array_even_without_rows() {
        check(Format::Json, &[], "[]\n");
        check(
            Format::Json,
            &rows()[..1],
            "[\n  {\"key\":\"a\",\"value\":\"one, \\\"two\\\"\\n\",\"siblings\":1}\n]\n",
        );
    }

    #[test]
    fn csv_quotes_what_rfc_4180_asks_for() {
        check(
            Format::Csv,
            &rows(),
            concat!(
                "key,value,siblings,encoding\n",
                "a,\"one, \"\"two\"\"\n\",1,\n",
                "Yg==,/wA=,,base64\n",
                ",\u{e9},[1.0],\n",
            ),
        );
        check(Format::Csv, &[], "key,value,siblings,encoding\n");
    }

    #[test]
    fn a_table_aligns_its_columns_and_shows_bytes_as_escapes() {
        check(
            Format::Table,
            &rows(),
            concat!(
                "KEY  VALUE         SIBLINGS\n",
                "a    one, \"two\"\\n  1\n",
                "b    \\xff\\u{0}\n",
                "     \u{e9}             [1.0]\n",
            ),
        );
        check(Format::Table, &[], "");
    }
}
