//! Every fixed bound of Peerage in one place: unit, default, and why it is what it is.
//!
//! A bound is reached by at least one test, and what happens there is said in docs/operations.md.
//! What an operator may change lives in [`crate::config`]; what stands here cannot be changed.

/// Longest key, in bytes. Longer ones are refused with `key_too_large`.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value by default, in bytes; `--value-bytes-max` may raise it up to
/// [`VALUE_BYTES_CEILING`].
pub const VALUE_BYTES_MAX_DEFAULT: usize = 1024 * 1024;
/// The longest value that any setting may allow, in bytes. A record must fit a segment many times.
pub const VALUE_BYTES_CEILING: usize = 16 * 1024 * 1024;
/// Most keys of one atomic batch.
pub const BATCH_KEYS_MAX: usize = 10_000;
/// Most bytes (keys and values) of one atomic batch.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of the batches that one shard carries out at a time: of its clients, of other leaders, and
/// forwarded ones that it leads. More are refused with `overloaded`; one always fits.
pub const BATCHES_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
/// Deepest nesting of a JSON request.
pub const JSON_DEPTH_MAX: usize = 32;
/// Bytes of a JSON line beyond eight times the longest value (escapes may need six): names, keys.
pub const JSON_LINE_BYTES_EXTRA: usize = 64 * 1024;
/// Bytes of keys and values that one answer may hold; more must be asked for in parts.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most elements of one RESP command: a full batch as MSET and its name.
pub const RESP_ARRAY_MAX: usize = 20_001;
/// Longest argument that a RESP client may announce and that is still read (and dropped) instead of
/// closing the connection, in bytes: the limit of Redis.
pub const RESP_BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Bytes of names and keys that a RESP command may have beside its values.
pub const RESP_NAMES_BYTES_MAX: usize = 64 * 1024;
/// Longest inline command (a line that is neither JSON nor a RESP array), in bytes.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Longest frame between nodes, in bytes.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest client context token, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 16 * 1024;
/// Losers that a key keeps in a bucket whose view is the winner.
pub const LOSERS_MAX: usize = 8;
/// Bytes of losers that a key keeps in such a bucket.
pub const LOSER_BYTES_MAX: usize = 64 * 1024;
/// Age at which such a loser may go, in milliseconds: seven days.
pub const LOSER_AGE_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// Inputs that one turn of a shard takes at most; more wait for the next turn.
pub const TURN_INPUTS_MAX: usize = 1_024;
/// Inputs that wait at a shard before connections stop being read.
pub const INBOX_INPUTS_MAX: usize = 8_192;
/// Bytes that wait at a shard before connections stop being read.
pub const INBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes put by one shard that are not yet durable; above it client writes are refused.
pub const UNDURABLE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Inputs of one shard that wait for a record from the disk or for a held key.
pub const PARKED_INPUTS_MAX: usize = 1_024;
/// Requests of one connection that may be in flight.
pub const CONNECTION_REQUESTS_MAX: usize = 1_024;
/// Unread reply bytes of one connection before it is no longer read from.
pub const CONNECTION_REPLY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of answers to one connection that the kernel keeps because the client has no room for
/// them, beside those on their way: the memory of the kernel is shared by all connections.
pub const UNSENT_BYTES_MAX: u32 = 64 * 1024;
/// Arguments of a command of a client that has shown no token yet, where one is needed.
pub const STRANGER_ARGUMENTS_MAX: usize = 10;
/// Longest argument, line or inline command of such a client, in bytes.
pub const STRANGER_BYTES_MAX: usize = 16 * 1024;
/// Unread reply bytes of such a client before it is no longer read from.
pub const STRANGER_REPLY_BYTES_MAX: usize = 1024;
/// Wrong tokens from one address within [`AUTH_FAILURES_MS`] before it must wait.
pub const AUTH_FAILURES_MAX: u32 = 5;
/// How long wrong tokens count, and how long an address that sent too many waits, in milliseconds.
pub const AUTH_FAILURES_MS: u64 = 60_000;
/// Connections of clients that one node serves by default.
pub const CONNECTIONS_MAX_DEFAULT: usize = 10_000;
/// Most connections that any setting may allow.
pub const CONNECTIONS_CEILING: usize = 100_000;
/// Connections from one address by default, of IPv6 from one /64; this machine has no such bound.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_000;
/// Connections beyond these numbers that are kept for this machine, so that an operator gets in.
pub const CONNECTIONS_RESERVED: usize = 16;
/// Time for the first request of a connection by default, in milliseconds.
pub const FIRST_REQUEST_MS_DEFAULT: u64 = 60_000;
/// Time to show a token by default, in milliseconds.
pub const AUTH_MS_DEFAULT: u64 = 10_000;
/// Time from the first byte of a request to its last by default, in milliseconds.
pub const REQUEST_MS_DEFAULT: u64 = 30_000;
/// Time in which answers must be read by default, in milliseconds.
pub const UNREAD_MS_DEFAULT: u64 = 30_000;
/// Longest of these times that a setting may give, in milliseconds: a day.
pub const PATIENCE_MS_CEILING: u64 = 24 * 3600 * 1000;
/// Bytes in a millisecond that give a request, or a reader, so much more time: slower is too slow.
pub const SLOW_BYTES_PER_MS: u64 = 16;
/// Time between two looks at all connections, in milliseconds.
pub const SWEEP_MS: u64 = 250;
/// Bytes that all connections of a node may keep by default: parts of requests, unread answers.
pub const CLIENT_BYTES_MAX_DEFAULT: usize = 256 * 1024 * 1024;
/// Least bytes that a setting may give them.
pub const CLIENT_BYTES_MIN: usize = 16 * 1024 * 1024;
/// Above that number, a connection that keeps bytes and has not moved for so long is closed, in
/// milliseconds; those first that keep most.
pub const PRESSED_MS: u64 = 1_000;
/// Bytes that one read of a socket takes above that number.
pub const PRESSED_READ_BYTES: usize = 4 * 1024;
/// Share of the memory of the machine, or of the control group, that a node takes unless
/// `--memory-bytes` says otherwise, in percent.
pub const MEMORY_PERCENT: u64 = 60;
/// Least memory budget, in bytes.
pub const MEMORY_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// Clients above that number who are told so at one time; further ones are closed without a word.
pub const REFUSALS_MAX: usize = 64;
/// Time in which such a client can say which protocol it speaks, and read the refusal, in
/// milliseconds each.
pub const REFUSAL_MS: u64 = 500;
/// Connections to the port for nodes that have not said yet, or not proven, which node they are.
pub const STRANGERS_MAX: usize = 256;
/// Bytes queued for one peer link.
pub const LINK_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Keys that one connection remembers having been shown (docs/consistency.md, rule 2 of contexts).
pub const SESSION_SHOWN_KEYS_MAX: usize = 64;
/// How long such a memory lasts, in milliseconds.
pub const SESSION_SHOWN_MS: u64 = 60_000;

/// How long a node remembers a request by the id that its client gave it, in milliseconds: long
/// enough for every retry.
pub const REQUEST_MEMORY_MS: u64 = 600_000;
/// Requests that a node remembers at most, in all its shards: about 128 bytes each, 48 MiB. More of
/// them within ten minutes push the oldest out.
pub const REQUESTS_REMEMBERED: usize = 384 * 1024;

/// Requests that one shard notes at most as not to be led any more, because their outcome was
/// asked for. While there are so many, an outcome is `unknown` instead of `not_applied`.
pub const DENIALS_MAX: usize = 65_536;

/// Time that a read may take when the client says nothing, in milliseconds.
pub const READ_TIMEOUT_MS: u32 = 1_000;
/// Time that a write may take when the client says nothing, in milliseconds.
pub const WRITE_TIMEOUT_MS: u32 = 2_000;
/// Longest time that a client may ask for, in milliseconds.
pub const TIMEOUT_MS_MAX: u32 = 60_000;
/// Longest wait for a member before the next one is tried, in milliseconds.
pub const MEMBER_PATIENCE_MS: u64 = 200;
/// Longest wait before a read is sent to one more member, in milliseconds.
pub const HEDGE_MS_MAX: u64 = 50;
/// Keys of one page of a scan.
pub const PAGE_KEYS_MAX: usize = 1_000;
/// Bytes of one page of a scan; a page ends after the token that reaches it.
pub const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Keys that KEYS returns unless the request says otherwise.
pub const KEYS_LIMIT_DEFAULT: usize = 10_000;

/// Shards of one node: a call id holds the shard in eight bits, and 64 cores are served.
pub const SHARDS_MAX: u16 = 64;
/// Nodes that vote on the next layout.
pub const VOTERS_MAX: usize = 7;
/// Copies of each key unless the cluster is born with another number.
pub const REPLICAS_DEFAULT: u8 = 3;
/// Most copies of each key.
pub const REPLICAS_MAX: u8 = 7;
/// Partitions of the ring unless the cluster is born with another number.
pub const PARTITIONS_DEFAULT: u16 = 1_024;
/// Most partitions: one for each Redis hash slot.
pub const PARTITIONS_MAX: u16 = 16_384;
/// Nodes of one cluster.
pub const NODES_MAX: usize = 1_000;

/// Bytes of one log segment unless `--segment-bytes` says otherwise.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Least bytes of a segment: shorter ones would be all headers and syncs of the folder.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Most bytes of a segment: places in it are counted in 28 bits of 8 bytes each, and a start
/// reads the newest one as a whole.
pub const SEGMENT_BYTES_CEILING: u64 = 1024 * 1024 * 1024;
/// Bytes that the log takes into one sync.
pub const SYNC_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Time between two syncs with the durability level `interval`, in milliseconds.
pub const SYNC_INTERVAL_MS: u64 = 50;
/// Segments that are kept in reserve so that deletes and compaction work on a full disk.
pub const RESERVE_SEGMENTS: u64 = 2;
/// Time between two rounds of the scrub, which reads every full segment, in milliseconds: a week.
pub const SCRUB_MS: u64 = 7 * 24 * 3600 * 1000;
/// Bytes of the value caches of all shards together.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Longest value that a cache takes, in bytes.
pub const CACHED_VALUE_BYTES_MAX: usize = 4 * 1024;

/// How long a replica keeps what is over before it takes it away, in milliseconds: more than clocks
/// that are kept in step differ by, so that no replica takes away what another one still shows.
pub const EXPIRED_KEPT_MS: u64 = 50_000;
/// Longest time between two looks at the clock for what is over, in milliseconds; with the time
/// before it is less than the minute after which nothing is left.
pub const EXPIRED_LOOK_MS: u64 = 5_000;
/// Keys that are looked at in one turn because something of them is over.
pub const EXPIRED_RECORDS_MAX: usize = 256;

const _: () = {
    assert!(EXPIRED_KEPT_MS + EXPIRED_LOOK_MS < 60_000);
    assert!(VALUE_BYTES_MAX_DEFAULT <= VALUE_BYTES_CEILING);
    assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(BATCH_KEYS_MAX * 2 < RESP_ARRAY_MAX);
    assert!(HEDGE_MS_MAX < MEMBER_PATIENCE_MS);
    assert!(PARTITIONS_DEFAULT.is_power_of_two() && PARTITIONS_MAX.is_power_of_two());
};
