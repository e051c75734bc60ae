#!/usr/bin/env bash
# One seed is one history: the same hash over all events in two processes, and in a debug and in a
# release build, for SEEDS seeds (200). Where two differ, the first event in which they do is named.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seeds=${SEEDS:-200}
jobs=${JOBS:-$(nproc)}
if [ -z "${PEERAGE_DEBUG:-}" ]; then
    (cd "$root" && cargo build --locked --quiet)
    PEERAGE_DEBUG=${CARGO_TARGET_DIR:-$root/target}/debug/peerage
fi

hashes() { # hashes BINARY FILE; a seed that broke a promise has a hash too
    "$1" sim run --seeds "$seeds" --jobs "$jobs" --hashes >"$2" 2>"$2.log" || [ $? = 1 ] ||
        { cat "$2.log"; fail "$1 could not run the seeds"; }
    [ "$(wc -l <"$2")" = "$seeds" ] || fail "$1 printed $(wc -l <"$2") of $seeds hashes"
}

events() { # events BINARY SEED FILE
    "$1" sim replay --seed "$2" --events "$3" >/dev/null 2>&1 || true
}

compare() { # compare NAME OTHER_BINARY FILE
    local differing seed
    differing=$({ diff "$work/release" "$3" || true; } | sed -n 's/^< \([0-9]*\) .*/\1/p')
    [ -z "$differing" ] && { echo "$1: $seeds of $seeds hashes are equal"; return; }
    seed=$(head -1 <<<"$differing")
    events "$PEERAGE" "$seed" "$work/one"
    events "$2" "$seed" "$work/other"
    echo "seed $seed, first differing event (line of the trace, release and $1):"
    { diff "$work/one" "$work/other" || true; } | sed -n '1,3p'
    fail "$(wc -w <<<"$differing") of $seeds hashes differ between release and $1"
}

hashes "$PEERAGE" "$work/release"
hashes "$PEERAGE" "$work/again"
compare "a second process" "$PEERAGE" "$work/again"
hashes "$PEERAGE_DEBUG" "$work/debug"
compare debug "$PEERAGE_DEBUG" "$work/debug"
verdict PASS "$seeds seeds, each one history in two processes, in debug and release"
