//! Pages of keys in the order of the ring: a walk that any node can go on with.

use std::collections::VecDeque;

use super::request::unreadable;
use super::{Answer, Call, Client, Error, Kind, Level};
use crate::limits;

/// A walk over the keys of the whole cluster, one key after the other. A key that is there from the
/// first page to the last comes exactly once, whatever nodes come and go meanwhile.
///
/// ```no_run
/// # async fn example() -> Result<(), peerage::client::Error> {
/// # let mut client = peerage::client::Client::new(["127.0.0.1:6379"]);
/// let mut users = client.scan().prefix("user:").with_values();
/// while let Some(user) = users.next().await? {
///     println!("{:?} {:?}", user.key, user.value);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a walk goes on when its next key is asked for"]
pub struct Scan<'a> {
    client: &'a mut Client,
    page_keys: u64,
    filters: Vec<(&'static str, Vec<u8>)>,
    values: bool,
    level: Option<Level>,
    /// Where the next page begins; `None`: the ring is done.
    cursor: Option<u64>,
    /// What was read and not taken.
    records: VecDeque<Record>,
}

/// A key, and its value where that was asked for; else the value is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value that plain readers are shown.
    pub value: Vec<u8>,
}

/// A page, and where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values; without values these are empty.
    pub records: Vec<Record>,
    /// `None`: the ring is done.
    pub next: Option<u64>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(client: &'a mut Client) -> Self {
        let page_keys = limits::PAGE_KEYS_MAX as u64;
        let (filters, records) = (Vec::new(), VecDeque::new());
        Self { client, page_keys, filters, values: false, level: None, cursor: Some(0), records }
    }

    /// Only keys that begin with this.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.filters.push(("prefix", prefix.as_ref().to_vec()));
        self
    }

    /// Only keys that match this glob of Redis.
    pub fn pattern(mut self, pattern: impl AsRef<[u8]>) -> Self {
        self.filters.push(("pattern", pattern.as_ref().to_vec()));
        self
    }

    /// Values too.
    pub fn with_values(mut self) -> Self {
        self.values = true;
        self
    }

    /// How many replicas must take part.
    pub fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// From here on, as [`Scan::cursor`] said it.
    pub fn from_cursor(mut self, cursor: u64) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// About so many keys a page, 1 to 1,000.
    pub fn page_keys(mut self, keys: u64) -> Self {
        self.page_keys = keys;
        self
    }

    /// Where a later walk goes on behind the pages that were read; `None`: the ring is done.
    pub fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    /// The next key; `None` at the end. After an error the walk may be gone on with.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        while self.records.is_empty() {
            match self.next_page().await? {
                Some(page) => self.records.extend(page.records),
                None => return Ok(None),
            }
        }
        Ok(self.records.pop_front())
    }

    /// The next page, which may hold no key; `None` at the end.
    pub async fn next_page(&mut self) -> Result<Option<Page>, Error> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let filters: Vec<(&str, &[u8])> =
            self.filters.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let mut call = Call::scan(cursor, self.page_keys).bytes(&filters);
        if self.values {
            call = call.json("values", "true");
        }
        if let Some(level) = self.level {
            call = call.level(level);
        }
        let answer = self.client.call(&call).await?;
        let page = answer
            .page()
            .map_err(|why| unreadable(Kind::Read, &self.client.nodes[self.client.first], &why))?;
        self.cursor = page.next;
        Ok(Some(page))
    }
}

impl Answer {
    /// The page that a reply to SCAN holds.
    pub fn page(&self) -> Result<Page, String> {
        let records = match (self.list("keys"), self.objects("items")) {
            (Some(keys), _) => keys
                .iter()
                .map(|raw| Ok(Record { key: self.decoded(raw)?, value: Vec::new() }))
                .collect::<Result<Vec<_>, String>>()?,
            (None, Some(items)) => {
                items.iter().map(|item| self.record(item)).collect::<Result<Vec<_>, String>>()?
            }
            (None, None) => return Err(String::from("it has no keys")),
        };
        let next = self.number("cursor").ok_or("it has no cursor")?;
        Ok(Page { records, next: (next != 0).then_some(next) })
    }

    /// A record of this reply; how its bytes are written stands in the reply.
    fn record(&self, item: &Self) -> Result<Record, String> {
        let field = |name: &str| {
            let raw = item.raw(name).ok_or_else(|| format!("an item has no {name}"))?;
            self.decoded(raw)
        };
        Ok(Record { key: field("key")?, value: field("value")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(json: &str) -> Result<Page, String> {
        serde_json::from_str::<Answer>(json).unwrap().page()
    }

    #[test]
    fn a_page_is_decoded_as_it_says_and_its_cursor_has_64_bits() {
        let found = page(
            r#"{"ok":true,"items":[{"key":"YQ==","value":"/w=="},{"key":"","value":""}],
                "cursor":"18446744073709551615","encoding":"base64"}"#,
        );
        let record = |key: &[u8], value: &[u8]| Record { key: key.into(), value: value.into() };
        let records = vec![record(b"a", b"\xff"), record(b"", b"")];
        assert_eq!(found, Ok(Page { records, next: Some(u64::MAX) }));
    }

    #[test]
    fn cursor_zero_is_the_end() {
        assert_eq!(page(r#"{"ok":true,"keys":["k"],"cursor":"0"}"#).unwrap().next, None);
        assert!(page(r#"{"ok":true,"keys":[]}"#).is_err());
        assert!(page(r#"{"ok":true,"cursor":"0"}"#).is_err());
    }
}
