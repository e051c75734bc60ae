#!/usr/bin/env bash
# Real libraries in cluster mode, unmodified: redis-py RedisCluster, ioredis Cluster and
# redis-benchmark --cluster find the owners by CLUSTER SLOTS and NODES. No answer redirects, and no
# request of one key comes to a node that does not own it. First three nodes, then five.
# valkey-glide takes a node for a part of one shard, that of the first slots for which it is named
# at all, and sends all slots that it leads there. Some of its requests are passed on, none is
# redirected.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need redis-cli redis-tools
need redis-benchmark redis-tools
need python3 python3
mkdir -p "$clients"
python_clients
node_clients

cat >"$clients/cluster.py" <<'PY'
import sys
import redis
from redis.cluster import ClusterNode, RedisCluster
ports = [int(port) for port in sys.argv[1:]]

def redirected(self, *words):
    raise SystemExit(f"redirected: {words}")
redis.exceptions.MovedError.__init__ = redirected
redis.exceptions.AskError.__init__ = redirected

for protocol in (3, 2):
    nodes = [ClusterNode("127.0.0.1", port) for port in ports[:1]]
    client = RedisCluster(startup_nodes=nodes, protocol=protocol, decode_responses=True)
    assert {node.port for node in client.get_nodes()} == set(ports), client.get_nodes()
    masters = {client.nodes_manager.get_node_from_slot(slot).port for slot in range(16384)}
    assert masters == set(ports), "every node is first owner of some slots"
    for number in range(200):
        assert client.set(f"k{number}", str(number)) is True
        assert client.get(f"k{number}") == str(number)
    assert client.getdel("k1") == "1" and client.getdel("k1") is None
    assert client.mset({"{m}a": "1", "{m}b": "2"}) is True
    assert client.mget("{m}a", "{m}c", "{m}b") == ["1", None, "2"]
    assert client.exists("k2", "k3", "k1") == 2
    assert client.strlen("k10") == 2 and client.type("k10") == "string"
    assert client.mget_nonatomic("k2", "k3") == ["2", "3"]
    pipe = client.pipeline()
    for number in range(200):
        pipe.set(f"p{number}", number).get(f"p{number}")
    assert pipe.execute()[1::2] == [str(number) for number in range(200)]
    context, values = client.execute_command("KV.GET", "k4")
    assert values == ["4"]
    done = client.execute_command("KV.PUT", "k4", "five", "CONTEXT", context, "LEVEL", "quorum")
    assert "context" in done
    assert client.execute_command("KV.EXPLAIN", "k4")
    assert client.execute_command("KV.DEL", "k4") and client.get("k4") is None
    where = {"target_nodes": client.get_random_node()}
    assert client.execute_command("KV.CONSISTENCY", **where) == "sloppy"
    assert client.execute_command("KV.CONFLICTS", **where)[0] == "0"
    assert client.cluster_keyslot("foo") == 12182
    assert client.cluster_countkeysinslot(client.keyslot("{m}")) == 2
    assert sorted(client.cluster_get_keys_in_slot(client.keyslot("{m}"), 9)) == ["{m}a", "{m}b"]
    for info in client.cluster_info(target_nodes=RedisCluster.ALL_NODES).values():
        assert info["cluster_state"] == "ok" and info["cluster_slots_ok"] == "16384", info
    assert len(client.cluster_nodes()) == len(ports)
    assert len(client.cluster_slots()) >= 1 and len(client.cluster_shards()) >= 1
    assert len(client.cluster_myid(client.get_random_node())) == 40
    assert client.readonly(target_nodes=RedisCluster.ALL_NODES)
    assert client.readwrite(target_nodes=RedisCluster.ALL_NODES)
    assert client.execute_command("ASKING", **where)
    assert client.time(**where)[0] > 1_700_000_000
    assert client.execute_command("COMMAND COUNT", **where) > 40
    keys = client.execute_command("COMMAND GETKEYS", "MSET", "a", 1, "b", 2, **where)
    assert keys == ["a", "b"], keys
    assert client.execute_command("COMMAND DOCS", "get", **where)
    assert client.delete(*[f"k{number}" for number in range(200)]) == 198
    assert client.unlink(*[f"p{number}" for number in range(200)]) == 200
    assert client.delete("{m}a", "{m}b") == 2
    client.close()
print("  redis-py", redis.__version__, "RedisCluster: RESP3 and RESP2 done")
PY

cat >"$clients/glide_cluster.py" <<'PY'
import asyncio, sys
from glide import GlideClusterClient, GlideClusterClientConfiguration, NodeAddress

async def main(port):
    configuration = GlideClusterClientConfiguration(
        [NodeAddress("127.0.0.1", port)], request_timeout=5000)
    client = await GlideClusterClient.create(configuration)
    for number in range(200):
        assert await client.set(f"g{number}", str(number)) == "OK"
        assert await client.get(f"g{number}") == str(number).encode()
    assert await client.getdel("g1") == b"1"
    assert await client.delete([f"g{number}" for number in range(200)]) == 199
    await client.close()
    print("  valkey-glide cluster client done")
asyncio.run(main(int(sys.argv[1])))
PY

cat >"$clients/cluster.cjs" <<'JS'
const assert = require("node:assert");
const { Cluster } = require("ioredis");
const ports = process.argv.slice(2).map(Number);
async function run(scaleReads) {
  // No redirection is followed: one would be an error.
  const options = { maxRedirections: 0, scaleReads, slotsRefreshInterval: 500 };
  const client = new Cluster([{ host: "127.0.0.1", port: ports[0] }], options);
  client.on("error", (error) => { console.error(error); process.exit(1); });
  await new Promise((resolve) => client.once("ready", resolve));
  for (let number = 0; number < 200; number++) {
    assert.equal(await client.set(`k${number}`, `${number}`), "OK");
    assert.equal(await client.get(`k${number}`), `${number}`);
  }
  assert.equal(await client.getdel("k1"), "1");
  assert.equal(await client.getdel("k1"), null);
  assert.equal(await client.mset("{m}a", "1", "{m}b", "2"), "OK");
  assert.deepEqual(await client.mget("{m}a", "{m}c", "{m}b"), ["1", null, "2"]);
  assert.equal(client.nodes("master").length, ports.length);
  assert.equal(await client.cluster("KEYSLOT", "foo"), 12182);
  assert.equal((await client.time()).length, 2);
  assert.equal(await client.readonly(), "OK");
  assert.equal(await client.readwrite(), "OK");
  for (let number = 0; number < 200; number++) await client.del(`k${number}`);
  assert.equal(await client.unlink("{m}a", "{m}b"), 2);
  client.disconnect();
}
run("master").then(() => run("all")).then(
  () => console.log("  ioredis", require("ioredis/package.json").version, "Cluster done"),
  (error) => { console.error(error); process.exit(1); },
);
JS

detours() { # requests that came to a node which holds no copy of their key, over all nodes
    local sum=0 port count
    for port in "${ports[@]}"; do
        count=$(redis-cli -p "$port" INFO peerage | tr -d '\r' | sed -n 's/^detours://p')
        sum=$((sum + count))
    done
    echo "$sum"
}

for count in 3 5; do
    echo "== $count nodes"
    data=$work/ring$count
    mkdir -p "$data"
    start_ring "$count"
    before=$(detours)
    timeout 60 "$python" "$clients/cluster.py" "${ports[@]}"
    (cd "$clients" && timeout 60 node cluster.cjs "${ports[@]}")
    timeout 60 redis-benchmark --cluster -p "${ports[0]}" -t set,get -n 10000 -r 1000 -c 20 -P 4 --csv \
        >"$work/benchmark.csv" 2>&1 || { cat "$work/benchmark.csv"; fail "redis-benchmark"; }
    grep '^"\(SET\|GET\)' "$work/benchmark.csv"
    [ "$(grep -c '^"\(SET\|GET\)' "$work/benchmark.csv")" = 2 ] || fail "redis-benchmark"
    ! grep -i 'moved\|error' "$work/benchmark.csv" || fail "redis-benchmark was redirected"
    after=$(detours)
    [ "$before" = "$after" ] || fail "$((after - before)) requests came to a node without the key"
    timeout 60 "$python" "$clients/glide_cluster.py" "${ports[0]}"
    passed_on=$(($(detours) - after))
    # The counter counts: any node answers for any key, without a redirection.
    for number in $(seq 20); do
        for port in "${ports[@]}"; do echo "GET any$number" | redis-cli -p "$port"; done
    done >"$work/any.txt"
    ! grep -i 'moved\|ask\|error' "$work/any.txt" || fail "a node redirected"
    others=$(($(detours) - after - passed_on))
    [ "$count" = 3 ] || [ "$others" -gt 0 ] || fail "the count of detours cannot grow"
    echo "  detours: 0 of redis-py, ioredis and redis-benchmark; $passed_on of valkey-glide;" \
        "$others of 20 keys asked everywhere"
    for node in "${!pids[@]}"; do kill_node "$node"; done
done
verdict PASS "cluster clients went to an owner in one hop, and nothing was redirected"
