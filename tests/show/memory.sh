#!/usr/bin/env bash
# What a key costs in memory, and what happens when the memory budget is used up. Two nodes, one
# after the other:
#   per key  1,000,000 keys of 20 bytes with values of 100: resident bytes a key, at most 87, the
#            cache of values not counted
#   budget   a node with 64 MiB is filled until it refuses: with out_of_memory, alive, within its
#            budget and what a process takes anyway; reads and deletes go on, and so do writes once
#            enough is deleted
#
#   tests/show/memory.sh [KEYS]
set -euo pipefail
. "$(dirname "$0")/lib.sh"

keys=${1:-1000000}
budget=$((64 * 1024 * 1024))
bare=$((96 * 1024 * 1024)) # threads, buffers, a compaction: what a process takes beside its budget
need python3 python3

cat >"$work/load.py" <<'PY'
"""load.py PORT fill FIRST COUNT | delete FIRST COUNT | insist | info

fill ends early at a refusal; insist writes one key after the other in JSON until one is refused.
"""
import json
import socket
import sys

PORT, WHAT, *NUMBERS = sys.argv[1:]
link = socket.create_connection(("127.0.0.1", int(PORT)))
replies = link.makefile("rb")


def words(*parts):
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def key(number):
    return b"key:%016d" % number


if WHAT == "info":
    link.sendall(words(b"INFO", b"memory"))
    size = int(replies.readline()[1:])
    print(replies.read(size).decode())
    sys.exit()
if WHAT == "insist":
    # What was on its way to the disk at the first refusal has left some room.
    for number in range(100_000):
        request = {"cmd": "SET", "key": f"one more {number}", "value": "v" * 1_000}
        link.sendall(json.dumps(request).encode() + b"\n")
        reply = replies.readline()
        if not json.loads(reply)["ok"]:
            break
    print(reply.decode().strip())
    sys.exit()
first, count = map(int, NUMBERS)
done, refusal = 0, b""
while done < count and not refusal:
    batch = range(first + done, first + min(count, done + 500))
    if WHAT == "fill":
        link.sendall(b"".join(words(b"SET", key(number), b"v" * 100) for number in batch))
    else:
        link.sendall(b"".join(words(b"DEL", key(number)) for number in batch))
    for _ in batch:
        line = replies.readline()
        if line.startswith(b"-OVERLOADED"):
            sys.exit("the node was overloaded by one client")
        if line.startswith(b"-"):
            refusal = refusal or line
        else:
            done += 1
print(done, refusal.decode().strip())
PY

load() { python3 "$work/load.py" "$@"; }
resident() { awk '$1 == "VmRSS:" { print $2 * 1024 }' "/proc/${pids[$1]}/status"; }
figure() { load "$1" info | tr -d '\r' | sed -n "s/^$2://p"; }

mapfile -t port < <(free_ports 2)
start n1 "${port[@]}"
wait_ready "${port[0]}"
before=$(resident n1)
load "${port[0]}" fill 0 "$keys" >/dev/null
kill_node n1 # what was allocated on the way to the disk is none of what a key costs
start n1 "${port[@]}"
wait_ready "${port[0]}"
load "${port[0]}" fill 0 1 >/dev/null
each=$((($(resident n1) - before) / keys))
stored=$(figure "${port[0]}" memory_store_bytes)
echo "$keys keys: $each resident bytes a key, $((stored / keys)) of them counted as stored"
[ "$each" -le 87 ] || fail "a key takes more than 87 bytes"
kill_node n1
rm -rf "$work/n1"

mapfile -t port < <(free_ports 2)
start n2 "${port[@]}" --memory-bytes "$budget"
wait_ready "${port[0]}"
read -r kept refusal < <(load "${port[0]}" fill 0 10000000)
peak=$(awk '$1 == "VmHWM:" { print $2 * 1024 }' "/proc/${pids[n2]}/status")
echo "$kept keys fit $budget bytes, peak resident $peak bytes; then: $refusal"
grep -q '^-OOM ' <<<"$refusal" || fail "not refused as out of memory: $refusal"
[ "$peak" -le $((budget + bare)) ] || fail "the process took $peak bytes"
ask "${port[0]}" '{"cmd":"GET","key":"key:0000000000000007"}' | grep -q '"value"' ||
    fail "reads do not go on"
said=$(load "${port[0]}" insist)
grep -q '"code":"out_of_memory"' <<<"$said" && grep -q '"outcome":"refused"' <<<"$said" ||
    fail "JSON does not say why: $said"
read -r gone _ < <(load "${port[0]}" delete 0 $((kept / 10)))
[ "$gone" = $((kept / 10)) ] || fail "only $gone deletes of $((kept / 10)) went on"
ask "${port[0]}" '{"cmd":"SET","key":"one more","value":"v"}' | grep -q '"ok":true' ||
    fail "writes do not go on after the deletes"
verdict PASS "$each bytes a key; a used-up budget refuses values, and nothing else"
