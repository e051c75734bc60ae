//! Every command that Redis has, and what becomes of it here: served, in a later version, or never,
//! with the reason and the way out. One table; COMMAND, the sniffer and the documentation read it.
//!
//! Arities and key positions are those of Redis 7.4 (its COMMAND reply), so that cluster-aware
//! clients find the keys of a command.

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its name in lower case.
    pub name: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Number of words, its name included; below zero: at least that many. 0: not served.
    pub arity: i8,
    /// Index of the first key, of the last (from the end where below zero), and the step between
    /// them; zeros where it names no keys.
    pub keys: (i8, i8, i8),
    /// What it is for.
    pub group: Group,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Served(Verb),
    /// It will, in a later version or in another mode; the text says which, and the way out.
    Later(&'static str),
    /// It will not; the text says why, and the way out.
    Never(&'static str),
}

/// What a command is for, as far as its flags go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// It is about the connection or the node.
    Connection,
    /// It is not served.
    Refused,
}

/// Commands that are served; several names may share one.
#[expect(missing_docs, reason = "each is the Redis command of its name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Set,
    Del,
    Exists,
    Mget,
    Mset,
    Strlen,
    Type,
    Dbsize,
    Scan,
    Keys,
    Ping,
    Echo,
    Quit,
    Select,
    Reset,
    Hello,
    Client,
    Command,
    Info,
    Config,
}

impl Command {
    /// Whether it may have this number of words, its name included.
    pub(super) fn takes(&self, words: usize) -> bool {
        let bound = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= bound } else { words == bound }
    }
}

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let lower: &[u8] = lower;
    let index = TABLE.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    TABLE.get(index)
}

/// Length of the longest name.
const NAME_BYTES_MAX: usize = 20;

pub(super) const EXPIRY: &str =
    "keys do not expire in this version, a later one has it; DEL what is no longer needed";
pub(super) const CONDITIONAL: &str = "it is true only where one node decides, so it will exist in \
    primary-secondary mode; without a master two nodes could both say yes";
const COUNTERS: &str = "counters that add up without a master come in a later version";
const GETDEL: &str = "it comes in a later version; GET and then DEL until then";
const SUBSTRING: &str = "it comes in a later version; GET reads the whole value";
const SETS: &str = "sets that merge without a master come in a later version";
const HASHES: &str = "hashes that merge without a master come in a later version";
const HYPERLOGLOG: &str = "it comes in a later version";
const EVENTS: &str = "events between clients come in a later version";
const CLUSTER: &str =
    "maps for cluster-aware clients come in a later version; any node answers for every key";
const AUTH: &str = "users come in a later version; this one listens on loopback only";
const ADMIN: &str = "it comes in a later version; INFO shows what there is";
const SEARCH: &str = "search comes in a later version; SCAN with MATCH finds keys";
const OWN: &str = "it comes in a later version; newline-JSON on this port has siblings, contexts, \
    levels, EXPLAIN, CONFLICTS and RING now";
const LISTS: &str =
    "positions in a list do not merge without a master; keep one key an element, or a whole value";
const SORTED: &str = "it is not planned: order and removal by rank do not merge without a master";
const STREAMS: &str =
    "it is not planned: the order of a stream needs a master; keep one key an entry";
const GEO: &str = "it is not planned; keep positions in values";
const SCRIPTS: &str = "code of clients does not run on nodes; do it in the client";
const SORT: &str = "it is not planned; sort in the client";
const ONE_DATABASE: &str = "there is one database; prefixes keep sets of keys apart";
const FLUSH: &str = "nothing deletes all keys at once; SCAN and DEL do it step by step";
const REPLICATION: &str = "nodes replicate by themselves, each key on its own row of nodes";
const DUMPS: &str = "`peerage export` and `peerage import` move data";
const PERSISTENCE: &str = "every acknowledged write is in the log already";
const PROCESS: &str = "the process is controlled by signals and flags, never by clients of data";
const MODULES: &str = "it belongs to a module of Redis that has no counterpart here";

const fn served(
    name: &'static str,
    verb: Verb,
    arity: i8,
    keys: (i8, i8, i8),
    group: Group,
) -> Command {
    Command { name, verdict: Verdict::Served(verb), arity, keys, group }
}

const fn later(name: &'static str, why: &'static str) -> Command {
    let verdict = Verdict::Later(why);
    Command { name, verdict, arity: 0, keys: (0, 0, 0), group: Group::Refused }
}

const fn never(name: &'static str, why: &'static str) -> Command {
    let verdict = Verdict::Never(why);
    Command { name, verdict, arity: 0, keys: (0, 0, 0), group: Group::Refused }
}

/// Sorted by name.
pub static TABLE: &[Command] = &[
    later("acl", AUTH),
    later("append", CONDITIONAL),
    later("asking", CLUSTER),
    later("auth", AUTH),
    never("bf.add", MODULES),
    never("bf.exists", MODULES),
    never("bgrewriteaof", PERSISTENCE),
    never("bgsave", PERSISTENCE),
    later("bitcount", SUBSTRING),
    later("bitfield", CONDITIONAL),
    later("bitfield_ro", SUBSTRING),
    later("bitop", CONDITIONAL),
    later("bitpos", SUBSTRING),
    never("blmove", LISTS),
    never("blmpop", LISTS),
    never("blpop", LISTS),
    never("brpop", LISTS),
    never("brpoplpush", LISTS),
    never("bzmpop", SORTED),
    never("bzpopmax", SORTED),
    never("bzpopmin", SORTED),
    never("cf.add", MODULES),
    never("cf.exists", MODULES),
    served("client", Verb::Client, -2, (0, 0, 0), Group::Connection),
    later("cluster", CLUSTER),
    never("cms.initbydim", MODULES),
    served("command", Verb::Command, -1, (0, 0, 0), Group::Connection),
    served("config", Verb::Config, -2, (0, 0, 0), Group::Connection),
    later("copy", CONDITIONAL),
    served("dbsize", Verb::Dbsize, 1, (0, 0, 0), Group::Read),
    never("debug", PROCESS),
    later("decr", COUNTERS),
    later("decrby", COUNTERS),
    served("del", Verb::Del, -2, (1, -1, 1), Group::Write),
    later("discard", CONDITIONAL),
    never("dump", DUMPS),
    served("echo", Verb::Echo, 2, (0, 0, 0), Group::Connection),
    never("eval", SCRIPTS),
    never("eval_ro", SCRIPTS),
    never("evalsha", SCRIPTS),
    never("evalsha_ro", SCRIPTS),
    later("exec", CONDITIONAL),
    served("exists", Verb::Exists, -2, (1, -1, 1), Group::Read),
    later("expire", EXPIRY),
    later("expireat", EXPIRY),
    later("expiretime", EXPIRY),
    never("failover", REPLICATION),
    never("fcall", SCRIPTS),
    never("fcall_ro", SCRIPTS),
    never("flushall", FLUSH),
    never("flushdb", FLUSH),
    later("ft._list", SEARCH),
    later("ft.aggregate", SEARCH),
    later("ft.aliasadd", SEARCH),
    later("ft.aliasdel", SEARCH),
    later("ft.aliasupdate", SEARCH),
    later("ft.alter", SEARCH),
    later("ft.config", SEARCH),
    later("ft.create", SEARCH),
    later("ft.cursor", SEARCH),
    later("ft.dictadd", SEARCH),
    later("ft.dictdel", SEARCH),
    later("ft.dictdump", SEARCH),
    later("ft.dropindex", SEARCH),
    later("ft.explain", SEARCH),
    later("ft.info", SEARCH),
    later("ft.profile", SEARCH),
    later("ft.search", SEARCH),
    later("ft.spellcheck", SEARCH),
    later("ft.sugadd", SEARCH),
    later("ft.sugdel", SEARCH),
    later("ft.sugget", SEARCH),
    later("ft.suglen", SEARCH),
    later("ft.syndump", SEARCH),
    later("ft.synupdate", SEARCH),
    later("ft.tagvals", SEARCH),
    never("function", SCRIPTS),
    never("geoadd", GEO),
    never("geodist", GEO),
    never("geohash", GEO),
    never("geopos", GEO),
    never("georadius", GEO),
    never("georadius_ro", GEO),
    never("georadiusbymember", GEO),
    never("georadiusbymember_ro", GEO),
    never("geosearch", GEO),
    never("geosearchstore", GEO),
    served("get", Verb::Get, 2, (1, 1, 1), Group::Read),
    later("getbit", SUBSTRING),
    later("getdel", GETDEL),
    later("getex", EXPIRY),
    later("getrange", SUBSTRING),
    later("getset", CONDITIONAL),
    never("graph.query", MODULES),
    later("hdel", HASHES),
    served("hello", Verb::Hello, -1, (0, 0, 0), Group::Connection),
    later("hexists", HASHES),
    later("hexpire", HASHES),
    later("hexpireat", HASHES),
    later("hexpiretime", HASHES),
    later("hget", HASHES),
    later("hgetall", HASHES),
    later("hincrby", COUNTERS),
    later("hincrbyfloat", CONDITIONAL),
    later("hkeys", HASHES),
    later("hlen", HASHES),
    later("hmget", HASHES),
    later("hmset", HASHES),
    later("hpersist", HASHES),
    later("hpexpire", HASHES),
    later("hpexpireat", HASHES),
    later("hpexpiretime", HASHES),
    later("hpttl", HASHES),
    later("hrandfield", HASHES),
    later("hscan", HASHES),
    later("hset", HASHES),
    later("hsetnx", CONDITIONAL),
    later("hstrlen", HASHES),
    later("httl", HASHES),
    later("hvals", HASHES),
    later("incr", COUNTERS),
    later("incrby", COUNTERS),
    later("incrbyfloat", CONDITIONAL),
    served("info", Verb::Info, -1, (0, 0, 0), Group::Connection),
    never("json.del", MODULES),
    never("json.get", MODULES),
    never("json.mget", MODULES),
    never("json.mset", MODULES),
    never("json.set", MODULES),
    never("json.type", MODULES),
    served("keys", Verb::Keys, 2, (0, 0, 0), Group::Read),
    later("kv.bucket", OWN),
    later("kv.conflicts", OWN),
    later("kv.consistency", OWN),
    later("kv.explain", OWN),
    later("kv.get", OWN),
    later("kv.id", OWN),
    later("kv.outcome", OWN),
    later("kv.put", OWN),
    later("kv.ring", OWN),
    later("kv.search", OWN),
    never("lastsave", PERSISTENCE),
    later("latency", ADMIN),
    later("lcs", SUBSTRING),
    never("lindex", LISTS),
    never("linsert", LISTS),
    never("llen", LISTS),
    never("lmove", LISTS),
    never("lmpop", LISTS),
    later("lolwut", ADMIN),
    never("lpop", LISTS),
    never("lpos", LISTS),
    never("lpush", LISTS),
    never("lpushx", LISTS),
    never("lrange", LISTS),
    never("lrem", LISTS),
    never("lset", LISTS),
    never("ltrim", LISTS),
    later("memory", ADMIN),
    served("mget", Verb::Mget, -2, (1, -1, 1), Group::Read),
    never("migrate", DUMPS),
    never("module", PROCESS),
    later("monitor", ADMIN),
    never("move", ONE_DATABASE),
    served("mset", Verb::Mset, -3, (1, -1, 2), Group::Write),
    later("msetnx", CONDITIONAL),
    later("multi", CONDITIONAL),
    later("object", ADMIN),
    later("persist", EXPIRY),
    later("pexpire", EXPIRY),
    later("pexpireat", EXPIRY),
    later("pexpiretime", EXPIRY),
    later("pfadd", HYPERLOGLOG),
    later("pfcount", HYPERLOGLOG),
    later("pfdebug", HYPERLOGLOG),
    later("pfmerge", HYPERLOGLOG),
    later("pfselftest", HYPERLOGLOG),
    served("ping", Verb::Ping, -1, (0, 0, 0), Group::Connection),
    later("psetex", EXPIRY),
    later("psubscribe", EVENTS),
    never("psync", REPLICATION),
    later("pttl", EXPIRY),
    later("publish", EVENTS),
    later("pubsub", EVENTS),
    later("punsubscribe", EVENTS),
    served("quit", Verb::Quit, -1, (0, 0, 0), Group::Connection),
    later("randomkey", ADMIN),
    later("readonly", CLUSTER),
    later("readwrite", CLUSTER),
    later("rename", CONDITIONAL),
    later("renamenx", CONDITIONAL),
    never("replconf", REPLICATION),
    never("replicaof", REPLICATION),
    served("reset", Verb::Reset, 1, (0, 0, 0), Group::Connection),
    never("restore", DUMPS),
    never("restore-asking", REPLICATION),
    later("role", ADMIN),
    never("rpop", LISTS),
    never("rpoplpush", LISTS),
    never("rpush", LISTS),
    never("rpushx", LISTS),
    later("sadd", SETS),
    never("save", PERSISTENCE),
    served("scan", Verb::Scan, -2, (0, 0, 0), Group::Read),
    later("scard", SETS),
    never("script", SCRIPTS),
    later("sdiff", SETS),
    later("sdiffstore", SETS),
    served("select", Verb::Select, 2, (0, 0, 0), Group::Connection),
    served("set", Verb::Set, -3, (1, 1, 1), Group::Write),
    later("setbit", CONDITIONAL),
    later("setex", EXPIRY),
    later("setnx", CONDITIONAL),
    later("setrange", CONDITIONAL),
    never("shutdown", PROCESS),
    later("sinter", SETS),
    later("sintercard", SETS),
    later("sinterstore", SETS),
    later("sismember", SETS),
    never("slaveof", REPLICATION),
    later("slowlog", ADMIN),
    later("smembers", SETS),
    later("smismember", SETS),
    later("smove", SETS),
    never("sort", SORT),
    never("sort_ro", SORT),
    later("spop", CONDITIONAL),
    later("spublish", EVENTS),
    later("srandmember", SETS),
    later("srem", SETS),
    later("sscan", SETS),
    later("ssubscribe", EVENTS),
    served("strlen", Verb::Strlen, 2, (1, 1, 1), Group::Read),
    later("subscribe", EVENTS),
    later("substr", SUBSTRING),
    later("sunion", SETS),
    later("sunionstore", SETS),
    later("sunsubscribe", EVENTS),
    never("swapdb", ONE_DATABASE),
    never("sync", REPLICATION),
    never("tdigest.create", MODULES),
    later("time", ADMIN),
    never("topk.add", MODULES),
    later("touch", ADMIN),
    never("ts.add", MODULES),
    never("ts.range", MODULES),
    later("ttl", EXPIRY),
    served("type", Verb::Type, 2, (1, 1, 1), Group::Read),
    served("unlink", Verb::Del, -2, (1, -1, 1), Group::Write),
    later("unsubscribe", EVENTS),
    later("unwatch", CONDITIONAL),
    later("vadd", SEARCH),
    later("vcard", SEARCH),
    later("vdim", SEARCH),
    later("vemb", SEARCH),
    later("vgetattr", SEARCH),
    later("vinfo", SEARCH),
    later("vlinks", SEARCH),
    later("vrandmember", SEARCH),
    later("vrem", SEARCH),
    later("vsetattr", SEARCH),
    later("vsim", SEARCH),
    later("wait", ADMIN),
    later("waitaof", ADMIN),
    later("watch", CONDITIONAL),
    never("xack", STREAMS),
    never("xadd", STREAMS),
    never("xautoclaim", STREAMS),
    never("xclaim", STREAMS),
    never("xdel", STREAMS),
    never("xgroup", STREAMS),
    never("xinfo", STREAMS),
    never("xlen", STREAMS),
    never("xpending", STREAMS),
    never("xrange", STREAMS),
    never("xread", STREAMS),
    never("xreadgroup", STREAMS),
    never("xrevrange", STREAMS),
    never("xsetid", STREAMS),
    never("xtrim", STREAMS),
    never("zadd", SORTED),
    never("zcard", SORTED),
    never("zcount", SORTED),
    never("zdiff", SORTED),
    never("zdiffstore", SORTED),
    never("zincrby", SORTED),
    never("zinter", SORTED),
    never("zintercard", SORTED),
    never("zinterstore", SORTED),
    never("zlexcount", SORTED),
    never("zmpop", SORTED),
    never("zmscore", SORTED),
    never("zpopmax", SORTED),
    never("zpopmin", SORTED),
    never("zrandmember", SORTED),
    never("zrange", SORTED),
    never("zrangebylex", SORTED),
    never("zrangebyscore", SORTED),
    never("zrangestore", SORTED),
    never("zrank", SORTED),
    never("zrem", SORTED),
    never("zremrangebylex", SORTED),
    never("zremrangebyrank", SORTED),
    never("zremrangebyscore", SORTED),
    never("zrevrange", SORTED),
    never("zrevrangebylex", SORTED),
    never("zrevrangebyscore", SORTED),
    never("zrevrank", SORTED),
    never("zscan", SORTED),
    never("zscore", SORTED),
    never("zunion", SORTED),
    never("zunionstore", SORTED),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_name_is_found_in_any_case() {
        assert!(TABLE.is_sorted_by(|left, right| left.name < right.name));
        let longest = TABLE.iter().map(|command| command.name.len()).max();
        assert_eq!(longest, Some(NAME_BYTES_MAX));
        for command in TABLE {
            let found = find(command.name.to_ascii_uppercase().as_bytes()).unwrap();
            assert_eq!(found.name, command.name);
        }
        assert!(find(b"nonsense").is_none());
        assert!(find(b"").is_none());
        assert!(find(&[b'a'; 1_000]).is_none());
    }

    #[test]
    fn the_documentation_names_every_command_and_every_reason() {
        let document = include_str!("../../../docs/protocols.md");
        for command in TABLE {
            let name = format!("`{}`", command.name.to_ascii_uppercase());
            assert!(document.contains(&name), "{name}");
            if let Verdict::Later(why) | Verdict::Never(why) = command.verdict {
                let row = document.lines().find(|line| {
                    line.starts_with('|') && line.contains(&name) && line.contains(why)
                });
                assert!(row.is_some(), "{name}: {why}");
            }
        }
    }

    #[test]
    fn every_refusal_says_why_and_every_served_command_has_an_arity() {
        for command in TABLE {
            match command.verdict {
                Verdict::Served(_) => assert_ne!(command.arity, 0, "{}", command.name),
                Verdict::Later(why) | Verdict::Never(why) => {
                    assert!(why.len() > 15, "{}", command.name);
                }
            }
        }
    }
}
