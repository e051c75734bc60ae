#!/usr/bin/env bash
# The Python client of clients/python, installed as users install it, against real nodes: its unit
# tests, a program of the KV Database with only its import changed, the page that introduces it,
# contexts and siblings, binary keys and values, a scan of 1,000 keys, and a kill -9 of the node
# that the client talks to, in silence and under load.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need python3 python3
# On a machine that does much else, syncs of the disk may take seconds.
export PATIENT='{"timeout": 60, "patience": 10}'

echo "== install"
cp -r "$root/clients/python" "$work/source" # the build writes into its directory
python3 -m venv "$work/venv"
python=$work/venv/bin/python
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$work/source"
"$python" -I - <<'PY'
import pathlib, peerage
home = pathlib.Path(peerage.__file__).parent
assert "site-packages" in str(home), home
assert (home / "py.typed").exists(), "the types are not installed"
print("  peerage", peerage.__version__, "with types")
PY

echo "== unit tests"
(cd "$root/clients/python" && PYTHONDONTWRITEBYTECODE=1 "$python" -m unittest 2>&1 | tail -3) ||
    fail "the unit tests"

start_ring 3
echo "== three nodes: ${ports[*]}"

echo "== a program of the KV Database, its import changed"
cat >"$work/old.py" <<'PY'
import sys
from client import KVClient

client = KVClient("127.0.0.1", int(sys.argv[1]))
assert client.set("name", "Alice") is True
assert client.get("name") == "Alice"
assert client.get("nobody") is None
assert client.bulk_set([("k1", "v1"), ("k2", "v2"), ("k3", "v3")]) is True
assert [client.get(key) for key in ("k1", "k2", "k3")] == ["v1", "v2", "v3"]
assert client.set("key", "value", debug=True) is True
assert client.bulk_set([("k1", "w1"), ("k2", "w2")], debug=True) is True
assert sorted(client.keys()) == ["k1", "k2", "k3", "key", "name"]
assert client.count() == 5
assert client.delete("name") is True
assert client.delete("name") is False
assert client.ping() is True
client.close()
with KVClient("127.0.0.1", int(sys.argv[1])) as client:
    for key in client.keys():
        client.delete(key)
    assert client.count() == 0
PY
sed 's/^from client import/from peerage import/' "$work/old.py" >"$work/new.py"
[ "$(diff "$work/old.py" "$work/new.py" | grep -c '^>')" = 1 ] || fail "more than one line differs"
"$python" "$work/new.py" "${ports[0]}" || fail "a program of the KV Database"

echo "== README.md of the client, as it stands"
cat >"$work/page.py" <<'PY'
"""Runs the Python of a page and compares what it prints with its `#=>`."""
import contextlib, io, re, sys
page, ports = open(sys.argv[1], encoding="utf-8").read(), sys.argv[2:]
blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
code = "\n".join(blocks)
expected = re.findall(r"#=> (.*)$", code, re.M)
for number, port in enumerate(ports):
    code = code.replace(str(6379 + number), port)
printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    exec(compile(code, sys.argv[1], "exec"), {})
assert printed.getvalue().splitlines() == expected, (printed.getvalue(), expected)
assert len(expected) > 10
print(f"  {len(blocks)} blocks print the {len(expected)} lines that they promise")
PY
"$python" "$work/page.py" "$root/clients/python/README.md" "${ports[@]}" || fail "the README"

echo "== contexts, levels, bytes, a scan"
cat >"$work/beyond.py" <<'PY'
import json, os, sys
from peerage import NOTHING_SEEN, KVBytesClient, KVClient, RefusedError
addresses = ["127.0.0.1:" + port for port in sys.argv[1:]]
patient = json.loads(os.environ["PATIENT"])
one, other = (KVClient(addresses=part, **patient) for part in (addresses[:1], addresses[1:]))
for left in one.keys():
    one.delete(left)

# two writers that have read the same keep both values; who has seen both may replace both
one.set("cart", "milk", context=NOTHING_SEEN)
seen = other.siblings("cart")
assert seen.values == ("milk",)
first = one.put("cart", "milk, bread", context=seen.context)
second = other.put("cart", "milk, eggs", context=seen.context)
assert (first.siblings, second.siblings) == (1, 2), (first, second)
both = one.siblings("cart")
assert sorted(both.values) == ["milk, bread", "milk, eggs"] and both.in_conflict
assert one.get("cart") == other.get("cart") == both.value
(conflict,) = other.conflicts()
assert conflict.key == "cart" and {v.value for v in conflict.versions} == set(both.values)
merged = one.update("cart", lambda values: ", ".join(sorted(set(", ".join(values).split(", ")))))
assert merged.siblings == 1 and other.get("cart") == "bread, eggs, milk"
assert list(one.conflicts()) == []
late = other.put("cart", "late", context=both.context)
assert late.siblings == 2, "a late writer replaced what it had not seen"
assert other.delete("cart", context=one.siblings("cart").context) is True
absent = one.siblings("cart")
assert absent.values == () and absent.value is None and absent.context

# a refusal is told with its code, and was not applied
for attempt, code in [
    (lambda: one.set("refused", "x", context=absent.context), "bad_context"),
    (lambda: one.using(w=9).set("refused", "x"), "bad_level"),
    (lambda: one.set("refused", "x" * 2_000_000), "value_too_large"),
    (lambda: one.bulk_set([]), "bad_request"),
]:
    try:
        attempt()
    except RefusedError as error:
        assert (error.code, error.applied) == (code, "no"), error
    else:
        raise AssertionError("not refused: " + code)
assert other.get("refused") is None
for level in ["one", "sloppy", "quorum", "strict", "all"]:
    assert one.using(level=level).set("level", level)
    assert one.using(level=level).get("level") == level
assert one.put("level", "x", debug=True).debug_ignored
one.delete("level")

# every byte comes back, under every byte
raw = KVBytesClient(addresses=addresses, **patient)
for data in [b"", b"\0", bytes(range(256)), b"\xff" * 1_000, b"\n\r\n", "\u00e9".encode()]:
    assert raw.set(data, data) and raw.get(data) == data
    assert KVBytesClient(addresses=addresses[2:], **patient).get(data) == data
assert one.set(b"\xfe", "text") and one.get("\udcfe") == "text"
for key, value in list(raw.scan_items()):
    assert value in (key, b"text")
    raw.delete(key)
assert raw.count() == 0

# 1,000 keys in pages of 64, each exactly once; deleted ones not at all
names = ["key-%04d" % number for number in range(1_000)]
for name in names:
    one.set(name, "value of " + name)
found = list(other.scan(page_size=64))
assert len(found) == 1_000 and sorted(found) == names
assert other.mget(names + ["nothing"]) == ["value of " + name for name in names] + [None]
assert dict(other.scan_items(prefix="key-00")) == {n: "value of " + n for n in names[:100]}
assert other.count() == 1_000 and other.count(prefix="key-00") == 100
assert sorted(other.keys(pattern="key-*7")) == names[7::10]
for name in names[:10]:
    one.delete(name)
assert sorted(other.keys()) == names[10:]
print("  siblings, refusals, levels, bytes and 1,000 keys are as they should be")
PY
"$python" "$work/beyond.py" "${ports[@]}" || fail "contexts, levels, bytes, scan"

echo "== kill -9 of the node that the client talks to"
cat >"$work/failover.py" <<'PY'
"""Writes and reads until it is told to stop; says what was acknowledged, refused and unknown."""
import json, os, sys, threading
from peerage import KVClient, OutcomeUnknownError, PeerageError
addresses = ["127.0.0.1:" + port for port in sys.argv[1:]]
client = KVClient(addresses=addresses, **json.loads(os.environ["PATIENT"]))
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
newest, tried, unknown, number = {}, {}, 0, 0
served, nodes = client.info()["node_id"], set()
print("talks to " + served, flush=True)
while not stop.is_set():
    number += 1
    key = "load-%d" % (number % 20)
    tried[key] = number
    try:
        client.set(key, str(number))
        newest[key] = number
    except OutcomeUnknownError as error:
        assert error.applied == "unknown", error
        unknown += 1
    nodes.add(client.info()["node_id"])
    if key in newest:
        read = int(client.get(key))
        assert newest[key] <= read <= tried[key], (key, newest[key], read, tried[key])
for key, value in newest.items():
    assert value <= int(client.get(key)) <= tried[key], key
assert served in nodes and len(nodes) > 1, f"only {nodes} answered"
assert unknown <= 1, f"{unknown} outcomes are unknown, and one node was killed once"
print(f"{number} writes, {unknown} of unknown outcome, 0 lost; answered by {sorted(nodes)}")
PY
mkfifo "$work/stop"
"$python" "$work/failover.py" "${ports[@]}" <"$work/stop" >"$work/failover.log" 2>&1 &
pids[client]=$!
exec 8>"$work/stop"
says() { # says TEXT: polls until the client under load has said it
    local end=$((SECONDS + 30))
    until grep -q "$1" "$work/failover.log"; do
        [ "$SECONDS" -lt "$end" ] || { cat "$work/failover.log"; fail "the client never said $1"; }
        sleep 0.1
    done
}
says "talks to n1"
sleep 1
kill_node n1
sleep 3
exec 8>&-
wait "${pids[client]}" || { cat "$work/failover.log"; fail "writing while a node was killed"; }
unset "pids[client]"
sed 's/^/  /' "$work/failover.log"

"$python" - "${ports[@]}" <<'PY' || fail "failover of an idle client"
import json, os, sys, time
from peerage import KVClient, UnreachableError
patient = json.loads(os.environ["PATIENT"])
dead, *alive = ["127.0.0.1:" + port for port in sys.argv[1:]]
begin = time.monotonic()
with KVClient(addresses=[dead, *alive], **patient) as client:
    assert client.set("after", "the kill") and client.get("after") == "the kill"
    assert len(client.keys(prefix="key-")) == 990
print("  a new client passes the dead node over in %.0f ms" % (1000 * (time.monotonic() - begin)))
try:
    KVClient(addresses=[dead])
except UnreachableError as error:
    assert error.applied == "no" and dead in str(error), error
else:
    raise AssertionError("a dead node took a connection")
PY
verdict PASS "old programs, README, siblings, bytes, 1,000 keys; $(tail -1 "$work/failover.log")"
