//! Commands that Redis does not have: siblings, contexts, levels, and where a key lies. They say
//! over RESP what newline-JSON says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::answer::Body;
use super::arguments::Arguments;
use super::plan::{Refusal, bad_cursor, not_an_integer, request, request_id, syntax_error};
use super::writer::Writer;
use crate::api::{
    Conflicts, Expiry, Explained, Holding, Level, Op, Read, Request, Session, WriteContext, Written,
};
use crate::causality::VersionVector;
use crate::hash::{BucketId, Token};
use crate::limits::PAGE_KEYS_MAX;
use crate::time::Mono;
use crate::wire::check;

/// Longest part of an argument that an error repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 128;

/// What may stand behind the fixed words of an own command.
#[derive(Default)]
struct Options {
    context: Option<WriteContext>,
    level: Option<Level>,
    r: Option<u8>,
    w: Option<u8>,
}

/// The options from word `index` on, each a name and a value; the command knows those of `known`.
fn options(arguments: Arguments<'_>, mut index: usize, known: &[&str]) -> Result<Options, Refusal> {
    let mut options = Options::default();
    while index < arguments.len() {
        let name = known.iter().find(|name| arguments.is(index, name));
        let (Some(name), true) = (name, index + 1 < arguments.len()) else {
            return Err(syntax_error());
        };
        match *name {
            "context" => {
                let token = check::context(arguments.at(index + 1))?;
                options.context = Some(WriteContext::Token(token));
            }
            "level" => {
                let word = arguments.shown(index + 1, SHOWN_BYTES_MAX);
                options.level = Some(check::level(&word)?);
            }
            "r" => options.r = Some(arguments.number(index + 1).ok_or_else(not_an_integer)?),
            "w" => options.w = Some(arguments.number(index + 1).ok_or_else(not_an_integer)?),
            _ => unreachable!("the lists of known options name these"),
        }
        index += 2;
    }
    Ok(options)
}

impl Options {
    /// The request for `op`, as the command or the connection says.
    fn request(&self, op: Op, session: &Session) -> Request {
        let level = self.level.unwrap_or(session.level);
        Request { level, r: self.r, w: self.w, ..Request::new(op) }
    }
}

/// KV.GET key [LEVEL level] [R replicas].
pub(super) fn get(arguments: Arguments<'_>, session: &Session) -> Result<(Request, Body), Refusal> {
    let key = check::key(arguments.bytes(1))?;
    let options = options(arguments, 2, &["level", "r"])?;
    Ok((options.request(Op::Get { key }, session), Body::Siblings))
}

/// KV.PUT key value [CONTEXT context] [LEVEL level] [W replicas].
pub(super) fn put(
    arguments: Arguments<'_>,
    value_bytes_max: usize,
    session: &mut Session,
    now: Mono,
) -> Result<(Request, Body), Refusal> {
    let key = check::key(arguments.bytes(1))?;
    let value = check::value(arguments.bytes(2), value_bytes_max)?;
    let options = options(arguments, 3, &["context", "level", "w"])?;
    // Last of all, because it uses up the memory: a refused command must not.
    let context = match &options.context {
        Some(context) => context.clone(),
        None => session.take_context(&key, now),
    };
    session.note_written(&key);
    Ok((
        options.request(Op::Put { key, value, context, expiry: Expiry::Never }, session),
        Body::Written,
    ))
}

/// KV.DEL key [CONTEXT context] [LEVEL level] [W replicas].
pub(super) fn delete(
    arguments: Arguments<'_>,
    session: &mut Session,
) -> Result<(Request, Body), Refusal> {
    let key = check::key(arguments.bytes(1))?;
    let options = options(arguments, 2, &["context", "level", "w"])?;
    let context = options.context.clone().unwrap_or_default();
    session.note_written(&key);
    Ok((options.request(Op::Delete { key, context }, session), Body::Written))
}

/// KV.EXPLAIN key.
pub(super) fn explain(
    arguments: Arguments<'_>,
    session: &Session,
) -> Result<(Request, Body), Refusal> {
    let key = check::key(arguments.bytes(1))?;
    Ok((request(Op::Explain { key }, session), Body::Explained))
}

/// KV.OUTCOME id key.
pub(super) fn outcome(
    arguments: Arguments<'_>,
    session: &Session,
) -> Result<(Request, Body), Refusal> {
    let id = request_id(arguments, 1)?;
    let key = check::key(arguments.bytes(2))?;
    Ok((request(Op::Outcome { id, key }, session), Body::Outcome))
}

/// KV.CONFLICTS [cursor [COUNT count]].
pub(super) fn conflicts(
    arguments: Arguments<'_>,
    session: &Session,
) -> Result<(Request, Body), Refusal> {
    let most = u32::try_from(PAGE_KEYS_MAX).expect("a page is bounded");
    let cursor = if arguments.len() == 1 {
        Token(0)
    } else {
        Token(arguments.number(1).ok_or_else(bad_cursor)?)
    };
    let limit = match arguments.len() {
        1 | 2 => most,
        4 if arguments.is(2, "count") => arguments.number(3).ok_or_else(not_an_integer)?,
        _ => return Err(syntax_error()),
    };
    if limit == 0 {
        return Err(syntax_error());
    }
    let (bucket, limit) = (BucketId::default(), limit.min(most));
    Ok((request(Op::Conflicts { bucket, cursor, limit }, session), Body::Conflicts))
}

/// KV.CONSISTENCY [LEVEL level].
pub(super) fn consistency(
    arguments: Arguments<'_>,
    session: &mut Session,
) -> Result<Body, Refusal> {
    if let Some(level) = options(arguments, 1, &["level"])?.level {
        session.level = level;
    }
    Ok(Body::Bulk(Bytes::from_static(session.level.name().as_bytes())))
}

/// KV.GET: the context, then all siblings, the winner first.
pub(super) fn put_siblings(writer: &mut Writer<'_>, read: &Read) {
    writer.array(2);
    put_context(writer, &read.context);
    writer.array(read.siblings.len());
    for entry in &read.siblings {
        writer.bulk(&entry.payload);
    }
}

/// KV.PUT and KV.DEL: the context that covers the write, and what is there now.
pub(super) fn put_written(writer: &mut Writer<'_>, written: &Written) {
    writer.map(4);
    writer.bulk(b"context");
    put_context(writer, &written.context);
    put_number(writer, "existed", u64::from(written.existed));
    put_number(writer, "acks", u64::from(written.acks_home + written.acks_fallback));
    put_number(writer, "siblings", u64::from(written.siblings));
}

/// KV.EXPLAIN: where a key lies and what each replica holds of it.
pub(super) fn put_explained(writer: &mut Writer<'_>, explained: &Explained) {
    writer.map(6);
    writer.bulk(b"key");
    writer.bulk(&explained.key.bytes);
    put_number(writer, "slot", u64::from(explained.slot));
    writer.bulk(b"token");
    // Text: a token needs all 64 bits, and integers of RESP have a sign.
    writer.bulk(explained.key.token.0.to_string().as_bytes());
    put_number(writer, "partition", u64::from(explained.partition.0));
    put_number(writer, "epoch", explained.epoch);
    writer.bulk(b"replicas");
    writer.array(explained.replicas.len());
    for replica in &explained.replicas {
        writer.map(5);
        put_text(writer, "node", &replica.node.to_string());
        put_text(writer, "name", &replica.name);
        put_holding(writer, replica.holds.as_ref());
    }
}

fn put_holding(writer: &mut Writer<'_>, holding: Option<&Holding>) {
    let state = match holding {
        None => "no_answer",
        Some(Holding::Absent) => "absent",
        Some(Holding::Unknown) => "unknown",
        Some(Holding::Versions { .. }) => "present",
    };
    put_text(writer, "state", state);
    let nothing = (&[][..], &VersionVector::new());
    let (siblings, vector_clock) = match holding {
        Some(Holding::Versions { siblings, vector_clock }) => (&siblings[..], vector_clock),
        Some(Holding::Absent | Holding::Unknown) | None => nothing,
    };
    writer.bulk(b"versions");
    writer.array(siblings.len());
    for (dot, hlc, bytes) in siblings {
        writer.map(3);
        put_text(writer, "dot", &dot.to_string());
        put_number(writer, "written_ms", hlc.unix_ms());
        put_number(writer, "bytes", *bytes);
    }
    writer.bulk(b"vclock");
    writer.map(vector_clock.iter().count());
    for (actor, seq) in vector_clock.iter() {
        put_number(writer, &actor.to_string(), seq);
    }
}

/// KV.CONFLICTS: the next cursor, then each key with its siblings, the winner first.
pub(super) fn put_conflicts(writer: &mut Writer<'_>, conflicts: &Conflicts) {
    writer.array(2);
    writer.bulk(conflicts.next.0.to_string().as_bytes());
    writer.array(conflicts.items.len());
    for (key, siblings) in &conflicts.items {
        writer.array(2);
        writer.bulk(&key.bytes);
        writer.array(siblings.len());
        for entry in siblings {
            writer.bulk(&entry.payload);
        }
    }
}

/// A token as newline-JSON writes it, so that one protocol may write what another has read.
fn put_context(writer: &mut Writer<'_>, token: &Bytes) {
    writer.bulk(URL_SAFE_NO_PAD.encode(token).as_bytes());
}

fn put_text(writer: &mut Writer<'_>, name: &str, text: &str) {
    writer.bulk(name.as_bytes());
    writer.bulk(text.as_bytes());
}

fn put_number(writer: &mut Writer<'_>, name: &str, number: u64) {
    writer.bulk(name.as_bytes());
    writer.number(number);
}

#[cfg(test)]
mod tests {
    use crate::api::{Level, Op, Request, WriteContext};
    use crate::wire::testing::World;

    fn say(world: &mut World, line: &str) -> String {
        world.say(&format!("{line}\r\n"))
    }

    fn last(world: &mut World) -> Request {
        world.node().requests.last().expect("something was asked").clone()
    }

    #[test]
    fn siblings_are_read_and_replaced_by_the_context_that_saw_them() {
        let mut world = World::new();
        world.node().add_sibling("k", "a");
        world.node().add_sibling("k", "b");
        let answer = say(&mut world, "KV.GET k LEVEL all");
        assert_eq!(answer, "*2\r\n$3\r\nAf4\r\n*2\r\n$1\r\nb\r\n$1\r\na\r\n");
        assert_eq!(last(&mut world).level, Level::All);
        let answer = say(&mut world, "KV.PUT k c CONTEXT Af4 W 2");
        assert!(answer.starts_with("*8\r\n$7\r\ncontext\r\n$3\r\nAf8\r\n"), "{answer}");
        assert!(answer.ends_with("$4\r\nacks\r\n:2\r\n$8\r\nsiblings\r\n:1\r\n"), "{answer}");
        let request = last(&mut world);
        assert_eq!(request.w, Some(2));
        let Op::Put { context: WriteContext::Token(token), .. } = request.op else { panic!() };
        assert_eq!(&token[..], b"\x01\xfe");
        let answer = say(&mut world, "KV.GET absent");
        assert_eq!(answer, "*2\r\n$3\r\nAf4\r\n*0\r\n");
    }

    #[test]
    fn a_write_without_a_context_takes_that_of_its_connection() {
        let mut world = World::new();
        world.node().add_sibling("k", "a");
        say(&mut world, "GET k");
        say(&mut world, "KV.PUT k v LEVEL nonsense");
        say(&mut world, "KV.PUT k v");
        let Op::Put { context, .. } = last(&mut world).op else { panic!() };
        assert!(matches!(context, WriteContext::Shown(_)), "{context:?}");
        say(&mut world, "KV.PUT k v CONTEXT \"\"");
        let Op::Put { context, .. } = last(&mut world).op else { panic!() };
        assert_eq!(context, WriteContext::Token(bytes::Bytes::new()));
        say(&mut world, "KV.DEL k");
        let Op::Delete { context, .. } = last(&mut world).op else { panic!() };
        assert_eq!(context, WriteContext::Known);
    }

    #[test]
    fn a_level_holds_for_what_follows() {
        let mut world = World::new();
        assert_eq!(say(&mut world, "KV.CONSISTENCY"), "$6\r\nsloppy\r\n");
        assert_eq!(say(&mut world, "KV.CONSISTENCY LEVEL Quorum"), "$6\r\nquorum\r\n");
        say(&mut world, "GET k");
        assert_eq!(last(&mut world).level, Level::Quorum);
        say(&mut world, "KV.GET k LEVEL one R 1");
        assert_eq!((last(&mut world).level, last(&mut world).r), (Level::One, Some(1)));
    }

    #[test]
    fn conflicts_and_replicas_are_shown() {
        let mut world = World::new();
        world.node().add_sibling("k", "a");
        world.node().add_sibling("k", "b");
        world.node().add_sibling("single", "a");
        let answer = say(&mut world, "KV.CONFLICTS");
        let key = "*2\r\n$1\r\nk\r\n*2\r\n$1\r\nb\r\n$1\r\na\r\n";
        assert_eq!(answer, format!("*2\r\n$1\r\n0\r\n*1\r\n{key}"));
        say(&mut world, "KV.CONFLICTS 7 COUNT 3");
        let Op::Conflicts { cursor, limit, .. } = last(&mut world).op else { panic!() };
        assert_eq!((cursor.0, limit), (7, 3));
        let answer = say(&mut world, "KV.EXPLAIN k");
        for part in ["$4\r\nslot\r\n:7629\r\n", "present", "absent", "unknown", "no_answer"] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
    }

    #[test]
    fn options_that_do_not_fit_are_errors_and_ask_for_nothing() {
        let mut world = World::new();
        for line in [
            "KV.GET k LEVEL",
            "KV.GET k LEVEL most",
            "KV.GET k R x",
            "KV.GET k R 256",
            "KV.GET k CONTEXT Af4",
            "KV.PUT k v CONTEXT !!!",
            "KV.PUT k v R 1",
            "KV.CONSISTENCY quorum",
            "KV.CONFLICTS x",
            "KV.CONFLICTS 0 COUNT 0",
            "KV.CONFLICTS 0 LIMIT 1",
        ] {
            let answer = say(&mut world, line);
            assert!(answer.starts_with("-ERR "), "{line}: {answer}");
        }
        assert_eq!(world.node().requests, []);
    }
}
