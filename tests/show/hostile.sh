#!/usr/bin/env bash
# 10,000 idle connections, 500 slow ones, 1,000 that never read, and random bytes on new ones:
# the memory of the node stays within its budget, and the p99 of an honest client within twice
# that of the same client alone. Half of the machine is the crowd itself, so run it when the
# machine is idle. Where fewer files may be open, fewer come, and the script says so.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need python3 python3

ulimit -n "$(ulimit -Hn)"
files=$(ulimit -n)
idle=10000 slow=500 deaf=1000
if [ "$files" -lt 12600 ]; then
    idle=$(((files - 600) * 10 / 12)) slow=$((files / 24)) deaf=$((files / 12))
    echo "ulimit -n is $files and cannot be raised: fewer connections than 11,500"
fi
budget=$((128 * 1024 * 1024))
mapfile -t ports < <(free_ports 2)
start n1 "${ports[0]}" "${ports[1]}" --connections-max 20000 --client-bytes-max "$budget" \
    --request-ms 20000 --unread-ms 20000 --durability interval
wait_ready "${ports[0]}"
code=0
python3 "$here/hostile.py" "${ports[0]}" "${pids[n1]}" "$idle" "$slow" "$deaf" \
    "${HOSTILE_SECONDS:-30}" "$budget" || code=$?
kill -0 "${pids[n1]}" || fail "the node is gone"
[ "$code" != 3 ] || fail "an honest client notices the crowd: p99 more than doubled"
[ "$code" = 0 ] || fail "see above"
ask "${ports[0]}" '{"cmd":"PING"}' | grep -q '"pong":true' || fail "the node does not answer"
verdict PASS "$((idle + slow + deaf)) hostile connections cost no more than the budget, nor others"
