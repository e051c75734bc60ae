#!/usr/bin/env bash
# Real Redis clients, unmodified: redis-cli, redis-py 8 (RESP3), ioredis, node-redis and
# redis-benchmark connect and run the commands of docs/protocols.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need redis-cli redis-tools
need python3 python3

start_ring 3
port=${ports[0]}
last=${ports[2]}

echo "== redis-cli $(redis-cli --version)"
expect() { # expect TEXT WORDS...: what redis-cli prints, lines joined with |
    local want=$1 got
    shift
    got=$(redis-cli -p "$port" "$@" 2>&1 | paste -sd'|')
    [ "$got" = "$want" ] || fail "redis-cli $*: $got, expected $want"
    echo "  $* -> $got"
}
expect PONG PING
expect hello ECHO hello
expect OK SELECT 0
expect OK SET k v
expect v GET k
expect 1 STRLEN k
expect string TYPE k
expect 2 EXISTS k k nothing
expect OK MSET {m}a 1 {m}b 2
expect "1||2" MGET {m}a nothing {m}b
expect 3 DBSIZE
expect k KEYS k
expect k --scan --pattern k
expect 1 UNLINK k
expect 2 DEL {m}a {m}b
expect "" GET k
says() { # says TEXT WORDS...: what redis-cli prints holds TEXT
    local want=$1 got
    shift
    got=$(redis-cli -p "$port" "$@" 2>&1)
    [[ $got == *"$want"* ]] || fail "redis-cli $*: no $want in $got"
    echo "  $* -> ... $want ..."
}
says server -3 HELLO 3
says redis_version:7.4.0 INFO
says loading:0 INFO
says role:master INFO REPLICATION
says "" CONFIG GET save
says RESET RESET
[ "$(redis-cli -p "$port" COMMAND COUNT)" -ge 20 ] || fail "COMMAND COUNT"
[ "$(redis-cli -p "$port" CLIENT ID)" -ge 1 ] || fail "CLIENT ID"

echo "== redis-py"
python_clients
"$python" - "$port" "$last" <<'PY'
import asyncio, sys, time
import redis, redis.asyncio
port, last = int(sys.argv[1]), int(sys.argv[2])
print("  redis-py", redis.__version__)
for protocol in (3, 2):
    one = redis.Redis(port=port, protocol=protocol, decode_responses=False)
    other = redis.Redis(port=last, protocol=protocol)
    assert one.ping() is True
    assert one.echo("x") == b"x"
    assert one.set("k", b"\x00\xff") is True
    assert other.get("k") == b"\x00\xff"
    assert other.get("nothing") is None
    assert one.mset({"{m}a": "1", "{m}b": "2"}) is True
    assert other.mget("{m}a", "nothing", "{m}b") == [b"1", None, b"2"]
    assert one.exists("k", "k", "nothing") == 2
    assert one.strlen("k") == 2
    assert one.type("k") == b"string"
    assert one.dbsize() == 3
    assert sorted(one.scan_iter(count=2)) == [b"k", b"{m}a", b"{m}b"]
    assert one.keys("k") == [b"k"]
    assert one.unlink("k") == 1
    assert one.delete("{m}a", "{m}b") == 2
    assert one.info()["redis_version"] == "7.4.0"
    assert one.client_id() > 0
    assert one.config_get("save") is not None
    pipe = one.pipeline(transaction=False)
    for number in range(1000):
        pipe.set(f"p{number % 10}", number)
    assert all(pipe.execute())
    assert other.get("p9") == b"999"
    assert one.delete(*[f"p{number}" for number in range(10)]) == 10
    assert one.set("s", "1", ex=100) is True
    assert 90_000 < other.pttl("s") <= 100_000
    assert one.set("s", "2", keepttl=True) is True
    assert 90 <= other.ttl("s") <= 100
    assert one.expire("s", 50) is True
    assert other.getex("s", px=40_000) == b"2"
    assert 30_000 < other.pttl("s") <= 40_000
    assert one.persist("s") is True
    assert other.ttl("s") == -1
    assert one.pexpireat("s", int(time.time() * 1000) + 60_000) is True
    assert abs(other.expiretime("s") - time.time() - 60) < 10
    assert one.expire("s", -1) is True
    assert other.get("s") is None and other.ttl("s") == -2
    assert one.psetex("s", 30, "3") is True
    time.sleep(0.05)
    assert other.get("s") is None and other.exists("s") == 0
    # What is over is counted until it is taken away.
    assert one.delete("s") == 0 and one.dbsize() == 0
    try:
        one.set("s", "4", ex=0)
        raise SystemExit("SET EX 0 must be refused")
    except redis.ResponseError as error:
        assert "invalid expire time" in str(error), error
    try:
        one.set("k", "v", nx=True)
        raise SystemExit("SET NX must say that it cannot be kept")
    except redis.ResponseError as error:
        print("  SET NX:", error)
async def both():
    client = redis.asyncio.Redis(port=port, protocol=3)
    await client.set("async", "1")
    assert await client.get("async") == b"1"
    await client.delete("async")
    await client.aclose()
asyncio.run(both())
print("  redis-py: RESP3, RESP2 and asyncio done")
PY

echo "== ioredis and node-redis"
node_clients
cat >"$clients/clients.cjs" <<'JS'
const assert = require("node:assert");
const [port, last] = process.argv.slice(2).map(Number);
async function ioredis() {
  const Redis = require("ioredis");
  const one = new Redis(port), other = new Redis(last);
  assert.equal(await one.ping(), "PONG");
  assert.equal(await one.set("k", "v"), "OK");
  assert.equal(await other.get("k"), "v");
  assert.equal(await other.get("nothing"), null);
  assert.equal(await one.mset("{m}a", "1", "{m}b", "2"), "OK");
  assert.deepEqual(await other.mget("{m}a", "nothing", "{m}b"), ["1", null, "2"]);
  assert.equal(await one.exists("k", "nothing"), 1);
  assert.equal(await one.strlen("k"), 1);
  assert.equal(await one.type("k"), "string");
  assert.equal(await one.dbsize(), 3);
  const keys = [];
  for await (const page of one.scanStream({ count: 2 })) keys.push(...page);
  assert.deepEqual(keys.sort(), ["k", "{m}a", "{m}b"]);
  assert.deepEqual((await one.getBuffer("k")), Buffer.from("v"));
  const replies = await one.pipeline().set("p", 1).get("p").del("p").exec();
  assert.deepEqual(replies.map(([error, reply]) => [error, String(reply)]), [[null, "OK"], [null, "1"], [null, "1"]]);
  assert.equal(await one.unlink("k"), 1);
  assert.equal(await one.del("{m}a", "{m}b"), 2);
  one.disconnect(); other.disconnect();
  console.log("  ioredis", require("ioredis/package.json").version, "done");
}
async function nodeRedis() {
  const { createClient } = require("redis");
  for (const RESP of [3, 2]) {
    const one = await createClient({ url: `redis://127.0.0.1:${port}`, RESP }).connect();
    const other = await createClient({ url: `redis://127.0.0.1:${last}`, RESP }).connect();
    assert.equal(await one.ping(), "PONG");
    assert.equal(await one.echo("x"), "x");
    assert.equal(await one.set("k", "v"), "OK");
    assert.equal(await other.get("k"), "v");
    assert.equal(await other.get("nothing"), null);
    assert.equal(await one.mSet({ "{m}a": "1", "{m}b": "2" }), "OK");
    assert.deepEqual(await other.mGet(["{m}a", "nothing", "{m}b"]), ["1", null, "2"]);
    assert.equal(await one.exists(["k", "nothing"]), 1);
    assert.equal(await one.strLen("k"), 1);
    assert.equal(await one.type("k"), "string");
    assert.equal(await one.dbSize(), 3);
    const keys = [];
    for await (const page of one.scanIterator({ COUNT: 2 })) keys.push(...[page].flat());
    assert.deepEqual(keys.sort(), ["k", "{m}a", "{m}b"]);
    assert.equal(await one.unlink("k"), 1);
    assert.equal(await one.del(["{m}a", "{m}b"]), 2);
    one.destroy(); other.destroy();
  }
  console.log("  node-redis", require("redis/package.json").version, "done");
}
ioredis().then(nodeRedis).catch((error) => { console.error(error); process.exit(1); });
JS
(cd "$clients" && timeout 60 node clients.cjs "$port" "$last")

echo "== redis-benchmark"
redis-benchmark -p "$port" -t set,get,mset -n 20000 -c 20 -P 4 --csv | tee "$work/benchmark.csv"
[ "$(grep -c '^"\(SET\|GET\|MSET\)' "$work/benchmark.csv")" = 3 ] || fail "redis-benchmark"
verdict PASS "redis-cli, redis-py, ioredis, node-redis and redis-benchmark ran unmodified"
