//! Random and mutated bytes for every codec: no panic, no hang, and no more memory than the input
//! and a fixed rest, which a counting allocator sees.
//!
//! `PEERAGE_FULL=1` gives each codec 5,000,000 inputs (in release: some minutes), else there are a
//! few. `PEERAGE_TEST_SEED` draws others. One test, because the allocator counts for the process.

#![allow(unsafe_code, reason = "a global allocator cannot be written without it")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage::causality::{
    Actor, Dot, Entry, Object, VersionVector, decode_context, encode_context,
};
use peerage::hash::{Key, PartitionId};
use peerage::limits::VALUE_BYTES_MAX_DEFAULT;
use peerage::shard::Record;
use peerage::store::inspect::{decode_unproven, encode_record};
use peerage::time::{Hlc, Mono};
use peerage::wire::{Connection, peer};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// Bytes that decoding may take beyond the input.
const REST_BYTES: usize = 64 * 1024;
/// Longest input, in bytes.
const INPUT_BYTES_MAX: usize = 2_000;
/// Longest time that one input may take; a thousand times what it takes.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);

/// The system's allocator, with a count of what is taken and of the most that was.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    let taken = TAKEN.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(taken, Ordering::Relaxed);
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc` with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A codec, what it takes for valid, and how an input is made to pass its outer checks.
struct Codec {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    seal: fn(&mut Vec<u8>),
    decode: fn(&[u8]),
}

#[test]
fn no_bytes_make_a_codec_panic_hang_or_take_more_memory_than_they_are_worth() {
    let mut generator = common::generator();
    let inputs = common::rounds(20_000, 5_000_000);
    for codec in [json(), resp(), frames(), entries(), records(), contexts()] {
        let mut most = 0;
        for _ in 0..inputs {
            let input = input(&codec, &mut generator);
            most = most.max(run(&codec, &input));
        }
        eprintln!("{}: {inputs} inputs, at most {most} bytes beyond the input", codec.name);
    }
}

/// Decodes one input; returns the bytes that it took beyond its own length.
fn run(codec: &Codec, input: &[u8]) -> usize {
    let before = TAKEN.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let mut time = Duration::MAX;
    // A stall of the machine does not come three times for one input.
    for _ in 0..3 {
        let started = common::now();
        (codec.decode)(input);
        time = time.min(common::now() - started);
        if time < INPUT_TIME_MAX {
            break;
        }
    }
    let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let shown = || format!("{}: {}", codec.name, input.escape_ascii());
    assert!(taken <= input.len() + REST_BYTES, "{taken} bytes were taken by {}", shown());
    assert!(time < INPUT_TIME_MAX, "{time:?} passed over {}", shown());
    taken.saturating_sub(input.len())
}

fn input(codec: &Codec, generator: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut bytes = if generator.random_range(0..8) == 0 {
        let length = generator.random_range(0..200);
        (0..length).map(|_| generator.random()).collect()
    } else {
        codec.corpus[generator.random_range(0..codec.corpus.len())].clone()
    };
    for _ in 0..generator.random_range(0..6) {
        mutate(&mut bytes, codec, generator);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    if generator.random_range(0..4) > 0 {
        (codec.seal)(&mut bytes);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, codec: &Codec, generator: &mut Xoshiro256PlusPlus) {
    /// Bytes that mean something in at least one codec: lengths, signs, brackets, line ends.
    const TELLING: [&[u8]; 16] = [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x80\x80\x80\x80\x01",
        b"\x7f",
        b"\r\n",
        b"$536870912\r\n",
        b"*20001\r\n",
        b"$-1\r\n",
        b"99999999999999999999",
        b"{",
        b"[",
        b"\"",
        b"\\u0000",
        b"\xc3\x28",
        b",",
        b"*1048576\r\n$",
    ];
    let at = generator.random_range(0..=bytes.len());
    match generator.random_range(0..8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, generator.random()),
        2 => {
            let telling = TELLING[generator.random_range(0..TELLING.len())];
            bytes.splice(at..at, telling.iter().copied());
        }
        3 => {
            let telling = TELLING[generator.random_range(0..TELLING.len())];
            let end = bytes.len().min(at + telling.len());
            bytes.splice(at..end, telling.iter().copied());
        }
        4 => {
            let other = &codec.corpus[generator.random_range(0..codec.corpus.len())];
            let from = generator.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        5 => {
            let end = generator.random_range(at..=bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        _ if at < bytes.len() => bytes[at] ^= 1 << generator.random_range(0..8),
        _ => bytes.push(generator.random()),
    }
}

fn unsealed(_: &mut Vec<u8>) {}

/// Every call and every request of a connection that sends these bytes.
fn decode_connection(bytes: &[u8]) {
    let mut connection = Connection::new(VALUE_BYTES_MAX_DEFAULT);
    let mut buffer = BytesMut::from(bytes);
    while let Some(mut call) = connection.decode(Mono(0), &mut buffer) {
        black_box(call.next_request());
        if call.closes() {
            break;
        }
    }
}

fn json() -> Codec {
    let lines = [
        r#"{"cmd":"SET","key":"a","value":{"n":[1, 2.50,"x"]},"context":"AAEC","w":2}"#,
        r#"{"cmd":"GET","key":"\u00e9","siblings":true,"level":"quorum","timeout_ms":50}"#,
        r#"{"cmd":"BULK_SET","items":[{"key":"a","value":1},{"key":"b","value":null}]}"#,
        r#"{"cmd":"MGET","keys":["a",2,[3]],"encoding":"base64","debug":true}"#,
        r#"{"cmd":"SCAN","cursor":"18446744073709551615","limit":5,"pattern":"a*[b-c]?"}"#,
        r#"{"cmd":"SET","key":"AA==","value":"/w==","encoding":"base64","ttl":5}"#,
        r#"{"cmd":"AUTH","token":"t","user":"u"}"#,
        r#"{"cmd":"COUNT","prefix":"a"}"#,
    ];
    let mut corpus: Vec<Vec<u8>> = lines.map(|line| format!("{line}\n").into_bytes()).to_vec();
    corpus.push(lines.join("\n").into_bytes());
    let seal = |bytes: &mut Vec<u8>| {
        // The first byte decides which codec reads the rest, and the last one ends the line.
        bytes.insert(0, b'{');
        bytes.push(b'\n');
        if bytes.get(1) == Some(&b'{') {
            bytes.remove(0);
        }
    };
    Codec { name: "newline-JSON", corpus, seal, decode: decode_connection }
}

fn resp() -> Codec {
    let commands: [&[&str]; 9] = [
        &["SET", "k", "value"],
        &["HELLO", "3", "AUTH", "default", "token", "SETNAME", "me"],
        &["MSET", "a", "1", "b", "2"],
        &["SCAN", "0", "MATCH", "a*", "COUNT", "10", "TYPE", "string"],
        &["SET", "k", "v", "PX", "9223372036854775807", "GET"],
        &["CLIENT", "SETINFO", "LIB-NAME", "x"],
        &["CLUSTER", "KEYSLOT", "{a}b"],
        &["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"],
        &["KV.PUT", "k", "v", "CONTEXT", "AAEC"],
    ];
    let array = |words: &&[&str]| {
        let bulks = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        format!("*{}\r\n{}", words.len(), bulks.collect::<String>()).into_bytes()
    };
    let mut corpus: Vec<Vec<u8>> = commands.iter().map(array).collect();
    corpus.push(corpus.concat());
    corpus.push(b"set key \"a \\x00 b\"\r\nget key\r\nPING 'x'\r\n".to_vec());
    Codec { name: "RESP", corpus, seal: unsealed, decode: decode_connection }
}

/// The frames whose bytes are kept for ever.
fn frames() -> Codec {
    let golden = include_str!("../src/wire/peer/golden_v1.txt");
    let hex = golden.lines().filter_map(|line| line.split_once(' ')).map(|(_, hex)| hex);
    let corpus = hex.map(bytes_of_hex).collect();
    let decode = |bytes: &[u8]| {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Some(frame)) = peer::decode(&mut buffer) {
            black_box(frame);
        }
    };
    Codec { name: "frames between nodes", corpus, seal: |bytes| seal_frame(bytes), decode }
}

fn entries() -> Codec {
    let mut corpus = frames().corpus;
    for (kind, length) in [(4, 32), (5, 65)] {
        let mut frame = vec![0; 28 + length];
        frame[8] = kind;
        seal_frame(&mut frame);
        corpus.push(frame);
    }
    let decode = |bytes: &[u8]| {
        let mut buffer = BytesMut::from(bytes);
        while let Ok(Some(entry)) = peer::decode_entry(&mut buffer) {
            black_box(entry);
        }
    };
    Codec { name: "frames of strangers", corpus, seal: |bytes| seal_frame(bytes), decode }
}

/// Sets length and checksum anew, so that what lies behind them is looked at.
fn seal_frame(bytes: &mut [u8]) {
    if bytes.len() >= 8 {
        let length = u32::try_from(bytes.len() - 8).expect("inputs are short");
        let checksum = crc32c::crc32c(&bytes[8..]);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn records() -> Codec {
    let dot = |seq| Dot { actor: Actor(7), seq };
    let entry = |seq| Entry::register(dot(seq), Hlc(seq), Bytes::from(vec![b'v'; 40]));
    let record = |entries: Vec<Entry>, seen| Record {
        key: Key::plain("key"),
        partition: PartitionId(3),
        object: Object { entries, ctx: [(Actor(7), seen)].into_iter().collect() },
        dots: vec![dot(seen)],
        removed: vec![dot(1)],
        stamp: None,
    };
    let records =
        [record(vec![entry(5)], 5), record(vec![entry(4), entry(6)], 6), record(vec![], 9)];
    let corpus = records.iter().map(encode_record).collect();
    let decode = |bytes: &[u8]| {
        black_box(decode_unproven(bytes));
    };
    let seal = |bytes: &mut Vec<u8>| {
        // The length of the record, which is a multiple of 8.
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        if bytes.len() >= 8 {
            let length = u32::try_from(bytes.len()).expect("inputs are short");
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
        }
    };
    Codec { name: "records of the log", corpus, seal, decode }
}

fn contexts() -> Codec {
    let clock = |actors: u64| -> VersionVector {
        (1..=actors).map(|actor| (Actor(actor << 40), actor * 1_000)).collect()
    };
    let corpus = [0, 1, 3, 40].map(|actors| encode_context(PartitionId(3), &clock(actors)));
    let decode = |bytes: &[u8]| {
        black_box(decode_context(PartitionId(3), bytes).is_ok());
    };
    Codec { name: "context tokens", corpus: corpus.to_vec(), seal: unsealed, decode }
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).expect("golden bytes are ASCII");
        u8::from_str_radix(digits, 16).expect("golden bytes are hexadecimal")
    };
    pairs.map(byte).collect()
}
