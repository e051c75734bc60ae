#!/usr/bin/env bash
# The `dev` prompt through a pipe, with redis-cli beside it: five nodes answer within 10 s, a value
# written through the first is read through the last, a killed node is missed by nobody, a
# restarted one serves again, a partition is survived and healed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need redis-cli redis-tools

mapfile -t base < <(free_ports 1)
first=${base[0]}
mkfifo "$work/prompt"
begin=$(date +%s%N)
"$PEERAGE" dev --port "$first" <"$work/prompt" >"$work/dev.log" 2>&1 &
pids[dev]=$!
exec 8>"$work/prompt"
say() { echo "dev> $1"; printf '%s\n' "$1" >&8; }
cli() { local node=$1; shift; redis-cli -p $((first + node - 1)) "$@"; }
expect() { # expect TEXT COMMAND...: polls until the command prints TEXT
    local want=$1 got="" end=$((SECONDS + 15))
    shift
    until got=$("$@" 2>&1) && [ "$got" = "$want" ]; do
        [ "$SECONDS" -lt "$end" ] || { cat "$work/dev.log"; fail "$* printed $got, not $want"; }
        sleep 0.1
    done
    echo "  $* -> $got"
}

for node in 1 2 3 4 5; do wait_ready $((first + node - 1)) 10; done
echo "five nodes answer after $((($(date +%s%N) - begin) / 1000000)) ms"
expect OK cli 1 set k v
expect v cli 5 get k
for number in $(seq 40); do cli 1 set "key-$number" "$number"; done | sort | uniq -c
say "kill 2"
expect "" bash -c "redis-cli -p $((first + 1)) ping 2>/dev/null | grep PONG || true"
for node in 1 3 4 5; do
    for number in $(seq 40); do
        got=$(cli "$node" get "key-$number")
        [ "$got" = "$number" ] || fail "without node 2, node $node reads key-$number as $got"
        got=$(cli "$node" set "key-$number" "$number")
        [ "$got" = OK ] || fail "without node 2, node $node writes key-$number: $got"
    done
    echo "  node $node reads and writes all 40 keys"
done
say "restart 2"
wait_ready $((first + 1)) 15
for number in $(seq 40); do expect "$number" cli 2 get "key-$number" >/dev/null; done
expect OK cli 2 set back yes
expect yes cli 4 get back
say "partition 1 2 | 3 4 5"
sleep 3
seen=$(cli 4 set split yes)
say "heal"
expect OK cli 1 set healed yes
expect yes cli 5 get healed
say "status"
say "quit"
exec 8>&-
wait "${pids[dev]}" || fail "dev ended with $?"
unset "pids[dev]"
sed 's/^/    | /' "$work/dev.log"
verdict PASS "kill, restart, partition (majority side said: $seen) and heal at the prompt"
