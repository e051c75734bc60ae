//! What every black-box test needs: real processes, real sockets, and waiting that ends.
//!
//! Invariants: ports are free and never fixed; every wait has a deadline and says what it waited
//! for; every process is killed by its own id when its [`Node`] goes; the only sleep of all tests
//! is the one in [`wait_for`]. Source: ours.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of this")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test panics on what it does not name")]

pub(crate) mod disk;
pub(crate) mod json;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod resp;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub(crate) use json::Json;
pub(crate) use node::Node;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
pub(crate) use resp::{Resp, Value};

/// How long a test waits for what should happen at once: a slow machine is not a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the long forms were asked for.
pub(crate) fn full() -> bool {
    std::env::var_os("PEERAGE_FULL").is_some_and(|value| value == "1")
}

/// `full` in the long form, else `brief`.
pub(crate) fn rounds(brief: usize, long: usize) -> usize {
    if full() { long } else { brief }
}

/// The generator of this run: `PEERAGE_TEST_SEED`, or always the same.
pub(crate) fn generator() -> Xoshiro256PlusPlus {
    let seed =
        std::env::var("PEERAGE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    eprintln!("seed {seed}; set PEERAGE_TEST_SEED for another");
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

/// The time now; for measuring and for deadlines of tests.
#[expect(clippy::disallowed_methods, reason = "a black-box test lives in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Polls until `poll` returns something, and panics with `what` after [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, poll: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, poll)
}

/// Polls until `poll` returns something, and panics with `what` after `patience`.
#[expect(clippy::disallowed_methods, reason = "polling a process has no event to wait for")]
pub(crate) fn wait_at_most<T>(
    patience: Duration,
    what: &str,
    mut poll: impl FnMut() -> Option<T>,
) -> T {
    let deadline = now() + patience;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(now() < deadline, "waited {patience:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets `span` pass: for starts that must lie apart, and for loads of a given length.
pub(crate) fn let_pass(span: Duration) {
    let end = now() + span;
    wait_at_most(span + PATIENCE, "time to pass", || (now() >= end).then_some(()));
}

/// A port that nothing listens on. Below the range from which the system takes its own, so that
/// no outgoing connection can take it before the process under test does.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    let offset = u16::try_from(std::process::id() % 500).expect("a remainder fits") * 40;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + offset.wrapping_add(step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// The binary under test: the one that Cargo built beside the tests, or the one that PEERAGE names.
pub(crate) fn binary() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_peerage"));
    std::env::var_os("PEERAGE").map_or_else(built, PathBuf::from)
}

/// Runs the command line of the binary to its end.
pub(crate) fn cli(args: &[&str]) -> Output {
    Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .env("NO_COLOR", "1")
        .output()
        .expect("the binary under test can be started")
}

/// As [`cli`], with something on standard input.
pub(crate) fn cli_with_input(args: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut child = Command::new(binary())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env("NO_COLOR", "1")
        .spawn()
        .expect("the binary under test can be started");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The process may end before it has read everything; its exit status tells.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the process can be waited for");
    writer.join().expect("the writer does not panic");
    output
}

/// What a process said on both streams.
pub(crate) fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// A folder that vanishes with the test, on the disk that holds the target directory.
pub(crate) fn folder() -> tempfile::TempDir {
    let parent = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::Builder::new().prefix("node-").tempdir_in(parent).expect("a folder can be made")
}
