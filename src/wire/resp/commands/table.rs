//! The table itself: what is served, and for everything else the reason and the way out.
//!
//! To serve a command, replace its line: name, verb, arity, group, then the positions of its keys
//! and what it says about itself. Everything that names commands reads this table.

use super::{Command, Group, Verb, later, never, served, subcommands};

pub(in crate::wire::resp) const CONDITIONAL: &str = "it is true only where one node decides, so \
    it will exist in primary-secondary mode; without a master two nodes could both say yes";
const COUNTERS: &str = "counters that add up without a master come in a later version";
const SUBSTRING: &str = "it comes in a later version; GET reads the whole value";
const SETS: &str = "sets that merge without a master come in a later version";
const HASHES: &str = "hashes that merge without a master come in a later version";
const HYPERLOGLOG: &str = "it comes in a later version";
const EVENTS: &str = "events between clients come in a later version";
const ACL: &str =
    "rules for users come in a later version; tokens have roles (`peerage token --help`)";
const ADMIN: &str = "it comes in a later version; INFO shows what there is";
const SEARCH: &str = "search comes in a later version; SCAN with MATCH finds keys";
const OWN: &str = "it comes in a later version; newline-JSON on this port has RING now";
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

/// Sorted by name.
pub static TABLE: &[Command] = &[
    later("acl", ACL),
    later("append", CONDITIONAL),
    served("asking", Verb::NoRedirect, 1, Group::Connection)
        .says("", "answers OK: nothing is redirected"),
    served("auth", Verb::Auth, -2, Group::Connection)
        .says("[username] token", "shows a token of the cluster; from then on its role counts"),
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
    served("client", Verb::Client, -2, Group::Connection).with(subcommands::CLIENT).says(
        "SUBCOMMAND [argument ...]",
        "what this connection says about itself, and is told of itself",
    ),
    served("cluster", Verb::Cluster, -2, Group::Node)
        .with(subcommands::CLUSTER)
        .says("SUBCOMMAND [argument ...]", "the map of slots and owners, and who is a member"),
    never("cms.initbydim", MODULES),
    served("command", Verb::Command, -1, Group::Node).with(subcommands::COMMAND).says(
        "[SUBCOMMAND [argument ...]]",
        "every command that is served, with the positions of its keys",
    ),
    served("config", Verb::Config, -2, Group::Node).with(subcommands::CONFIG).says(
        "SUBCOMMAND [argument ...]",
        "the settings of Redis that clients ask for, as they are true here",
    ),
    later("copy", CONDITIONAL),
    served("dbsize", Verb::Dbsize, 1, Group::Read)
        .says("", "the number of keys in the whole cluster"),
    never("debug", PROCESS),
    later("decr", COUNTERS),
    later("decrby", COUNTERS),
    served("del", Verb::Del, -2, Group::Removal).keys(1, -1, 1).says(
        "key [key ...]",
        "removes keys, each with all of its siblings; answers how many were there",
    ),
    later("discard", CONDITIONAL),
    never("dump", DUMPS),
    served("echo", Verb::Echo, 2, Group::Connection).says("message", "answers the message"),
    never("eval", SCRIPTS),
    never("eval_ro", SCRIPTS),
    never("evalsha", SCRIPTS),
    never("evalsha_ro", SCRIPTS),
    later("exec", CONDITIONAL),
    served("exists", Verb::Exists, -2, Group::Read)
        .keys(1, -1, 1)
        .says("key [key ...]", "how many of these keys are there"),
    served("expire", Verb::Expire, -3, Group::Write)
        .keys(1, 1, 1)
        .says("key seconds [option]", "the value ends then; in the past: it is deleted"),
    served("expireat", Verb::Expireat, -3, Group::Write)
        .keys(1, 1, 1)
        .says("key unix-time-seconds [option]", "the value ends at this second"),
    served("expiretime", Verb::Expiretime, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "the second at which the value ends"),
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
    served("get", Verb::Get, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "the value of a key: of siblings the winner, of an absent key null"),
    later("getbit", SUBSTRING),
    served("getdel", Verb::Getdel, 2, Group::Removal)
        .keys(1, 1, 1)
        .says("key", "the value of a key, and removes what was read"),
    served("getex", Verb::Getex, -2, Group::Write)
        .keys(1, 1, 1)
        .says("key [option ...]", "the value of a key, which ends at another time from now on"),
    later("getrange", SUBSTRING),
    later("getset", CONDITIONAL),
    never("graph.query", MODULES),
    later("hdel", HASHES),
    served("hello", Verb::Hello, -1, Group::Connection).says(
        "[version [AUTH username token] [SETNAME name]]",
        "agrees on the version of the protocol; answers facts about the node",
    ),
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
    served("info", Verb::Info, -1, Group::Node)
        .says("[section ...]", "facts about this node and its cluster"),
    never("json.del", MODULES),
    never("json.get", MODULES),
    never("json.mget", MODULES),
    never("json.mset", MODULES),
    never("json.set", MODULES),
    never("json.type", MODULES),
    served("keys", Verb::Keys, 2, Group::Read)
        .says("pattern", "the keys that match, 10,000 at most"),
    later("kv.bucket", OWN),
    served("kv.conflicts", Verb::KvConflicts, -1, Group::Read)
        .says("[cursor [COUNT count]]", "a page of the keys with several siblings, and these"),
    served("kv.consistency", Verb::KvConsistency, -1, Group::Connection)
        .says("[LEVEL level]", "the level of what follows on this connection"),
    served("kv.del", Verb::KvDel, -2, Group::Removal).keys(1, 1, 1).says(
        "key [CONTEXT context] [LEVEL level] [W replicas]",
        "removes what the context has seen of a key, without one all that is there",
    ),
    served("kv.explain", Verb::KvExplain, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "where a key lies, and what each of its replicas holds"),
    served("kv.get", Verb::KvGet, -2, Group::Read)
        .keys(1, 1, 1)
        .says("key [LEVEL level] [R replicas]", "the context of a key and all of its siblings"),
    served("kv.id", Verb::KvId, 2, Group::Connection)
        .says("id", "names the next write, so that it is done once however often it is sent"),
    served("kv.outcome", Verb::KvOutcome, 3, Group::Read)
        .keys(2, 2, 1)
        .says("id key", "whether a write of this id was applied: applied, not_applied, unknown"),
    served("kv.put", Verb::KvPut, -3, Group::Write).keys(1, 1, 1).says(
        "key value [CONTEXT context] [LEVEL level] [W replicas]",
        "writes a key: replaces what the context has seen, keeps the rest as siblings",
    ),
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
    served("mget", Verb::Mget, -2, Group::Read)
        .keys(1, -1, 1)
        .says("key [key ...]", "the values of keys, each read by itself"),
    never("migrate", DUMPS),
    never("module", PROCESS),
    later("monitor", ADMIN),
    never("move", ONE_DATABASE),
    served("mset", Verb::Mset, -3, Group::Write)
        .keys(1, -1, 2)
        .says("key value [key value ...]", "writes keys, all or nothing"),
    later("msetnx", CONDITIONAL),
    later("multi", CONDITIONAL),
    later("object", ADMIN),
    served("persist", Verb::Persist, 2, Group::Write)
        .keys(1, 1, 1)
        .says("key", "the value never ends"),
    served("pexpire", Verb::Pexpire, -3, Group::Write)
        .keys(1, 1, 1)
        .says("key milliseconds [option]", "as EXPIRE, in milliseconds"),
    served("pexpireat", Verb::Pexpireat, -3, Group::Write)
        .keys(1, 1, 1)
        .says("key unix-time-milliseconds [option]", "as EXPIREAT, in milliseconds"),
    served("pexpiretime", Verb::Pexpiretime, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "as EXPIRETIME, in milliseconds"),
    later("pfadd", HYPERLOGLOG),
    later("pfcount", HYPERLOGLOG),
    later("pfdebug", HYPERLOGLOG),
    later("pfmerge", HYPERLOGLOG),
    later("pfselftest", HYPERLOGLOG),
    served("ping", Verb::Ping, -1, Group::Connection)
        .says("[message]", "answers PONG, or the message"),
    served("psetex", Verb::Psetex, 4, Group::Write)
        .keys(1, 1, 1)
        .says("key milliseconds value", "as SETEX, in milliseconds"),
    later("psubscribe", EVENTS),
    never("psync", REPLICATION),
    served("pttl", Verb::Pttl, 2, Group::Read).keys(1, 1, 1).says("key", "as TTL, in milliseconds"),
    later("publish", EVENTS),
    later("pubsub", EVENTS),
    later("punsubscribe", EVENTS),
    served("quit", Verb::Quit, -1, Group::Connection).says("[argument ...]", "ends the connection"),
    later("randomkey", ADMIN),
    served("readonly", Verb::NoRedirect, 1, Group::Connection)
        .says("", "answers OK: every node answers reads"),
    served("readwrite", Verb::NoRedirect, 1, Group::Connection)
        .says("", "answers OK: every node takes writes"),
    later("rename", CONDITIONAL),
    later("renamenx", CONDITIONAL),
    never("replconf", REPLICATION),
    never("replicaof", REPLICATION),
    served("reset", Verb::Reset, 1, Group::Connection)
        .says("", "forgets what the connection has chosen and was shown"),
    never("restore", DUMPS),
    never("restore-asking", REPLICATION),
    later("role", ADMIN),
    never("rpop", LISTS),
    never("rpoplpush", LISTS),
    never("rpush", LISTS),
    never("rpushx", LISTS),
    later("sadd", SETS),
    never("save", PERSISTENCE),
    served("scan", Verb::Scan, -2, Group::Read).says(
        "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        "a page of the keys of the whole cluster",
    ),
    later("scard", SETS),
    never("script", SCRIPTS),
    later("sdiff", SETS),
    later("sdiffstore", SETS),
    served("select", Verb::Select, 2, Group::Connection).says("index", "knows database 0"),
    served("set", Verb::Set, -3, Group::Write).keys(1, 1, 1).says(
        "key value [GET] [EX seconds] [PX ms] [EXAT second] [PXAT ms] [KEEPTTL]",
        "writes a key: replaces what this connection was shown, else all",
    ),
    later("setbit", CONDITIONAL),
    served("setex", Verb::Setex, 4, Group::Write)
        .keys(1, 1, 1)
        .says("key seconds value", "writes a value that ends in so many seconds"),
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
    served("strlen", Verb::Strlen, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "the length of a value in bytes, 0 of an absent key"),
    later("subscribe", EVENTS),
    later("substr", SUBSTRING),
    later("sunion", SETS),
    later("sunionstore", SETS),
    later("sunsubscribe", EVENTS),
    never("swapdb", ONE_DATABASE),
    never("sync", REPLICATION),
    never("tdigest.create", MODULES),
    served("time", Verb::Time, 1, Group::Node)
        .says("", "seconds of Unix time on this node, and microseconds within the second"),
    never("topk.add", MODULES),
    later("touch", ADMIN),
    never("ts.add", MODULES),
    never("ts.range", MODULES),
    served("ttl", Verb::Ttl, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "seconds until the value ends; -1: never, -2: there is none"),
    served("type", Verb::Type, 2, Group::Read)
        .keys(1, 1, 1)
        .says("key", "string, or none of an absent key"),
    served("unlink", Verb::Del, -2, Group::Removal).keys(1, -1, 1).says("key [key ...]", "as DEL"),
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
