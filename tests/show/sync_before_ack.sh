#!/usr/bin/env bash
# A trace of system calls: for every acknowledged SET the value was written to the log, then
# fdatasync returned, and only then was the acknowledgement written to the socket.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need strace strace
need redis-cli redis-tools

writes=${WRITES:-100}
mapfile -t all < <(free_ports 2)
strace -f -qq -s 4096 -o "$work/trace" \
    -e trace=pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,sendto,sendmsg,recvfrom,read \
    "$PEERAGE" serve --node-id n1 --data-dir "$work/n1" --port "${all[0]}" \
    --cluster-port "${all[1]}" >"$work/n1.log" 2>&1 </dev/null &
pids[strace]=$!
wait_ready "${all[0]}"
for ((number = 0; number < writes; number++)); do
    printf 'SET key-%d marker-%06d\n' "$number" "$number"
done | redis-cli -p "${all[0]}" | sort | uniq -c
printf 'SHUTDOWN\n' >/dev/null
# strace passes the signal of its death on to nobody: stop the node itself.
kill -TERM "$(pgrep -P "${pids[strace]}")"
wait "${pids[strace]}" || true
unset "pids[strace]"

python3 - "$work/trace" "$writes" <<'PY' || fail "an acknowledgement left before its fdatasync returned"
import re, sys
open_calls, events = {}, []
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    pid, rest = line.rstrip("\n").split(None, 1)
    if rest.endswith("<unfinished ...>"):
        open_calls[pid] = rest[: -len("<unfinished ...>")]
        continue
    resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", rest)
    if resumed:
        rest = open_calls.pop(pid, resumed.group(1) + "(") + resumed.group(2)
    events.append(rest)  # in the order in which the calls returned
proved = 0
for number in range(int(sys.argv[2])):
    marker = f"marker-{number:06d}"
    asked = next(i for i, e in enumerate(events) if e.startswith(("recv", "read(")) and marker in e)
    written = next(i for i, e in enumerate(events) if e.startswith(("pwrite", "write")) and marker in e)
    synced = next(i for i, e in enumerate(events)
                  if i > written and e.startswith(("fdatasync", "fsync")) and e.endswith("= 0"))
    acked = next(i for i, e in enumerate(events)
                 if i > asked and e.startswith(("sendto", "sendmsg", "write")) and "+OK" in e)
    if not asked < written < synced < acked:
        print(f"{marker}: received {asked}, logged {written}, synced {synced}, acknowledged {acked}")
        sys.exit(1)
    if number == 0:
        for index in (asked, written, synced, acked):
            print("   ", events[index][:150])
    proved += 1
print(f"{proved} writes: received < logged < fdatasync returned < acknowledged")
PY
verdict PASS "fdatasync returned before each of $writes acknowledgements was written"
