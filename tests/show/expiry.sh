#!/usr/bin/env bash
# Values that end, on three real nodes: shown until then and not after, whatever node is asked, not
# after kill -9 either, and gone from every disk within a minute. Then a thousand simulated worlds
# in which clocks are an hour wrong: `SEEDS=50` makes it fifty.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
mapfile -t ports < <(free_ports 6)
seeds=(--seed "127.0.0.1:${ports[3]}" --seed "127.0.0.1:${ports[4]}" --seed "127.0.0.1:${ports[5]}")
run() { start "n$1" "${ports[$1 - 1]}" "${ports[$1 + 2]}" "${seeds[@]}"; }
for node in 1 2 3; do run "$node"; done
for node in 1 2 3; do wait_ready "${ports[node - 1]}"; done

holds() { # holds NODE TEXT JSON: the reply of a node holds this text
    local reply
    reply=$(ask "${ports[$1 - 1]}" "$3")
    [[ $reply == *"$2"* ]] || fail "n$1 answers $reply to $3, without $2"
}
for key in 1 2 3 4 5 6 7 8 9; do
    holds 1 '"ok":true' "{\"cmd\":\"SET\",\"key\":\"short$key\",\"value\":\"v\",\"ttl\":4}"
done
holds 1 '"ok":true' '{"cmd":"SET","key":"long","value":"v","ttl":600}'
for node in 1 2 3; do holds "$node" '"value":"v"' '{"cmd":"GET","key":"short1"}'; done
kill_node n2
sleep 4
for node in 1 3; do holds "$node" 'not_found' '{"cmd":"GET","key":"short1"}'; done
run 2
wait_ready "${ports[1]}"
for node in 1 2 3; do
    holds "$node" 'not_found' '{"cmd":"GET","key":"short1"}'
    holds "$node" '"value":"v"' '{"cmd":"GET","key":"long"}'
    holds "$node" '"keys":["long"]' '{"cmd":"KEYS"}'
done
echo "  shown until its end and not after, through kill -9"
end=$((SECONDS + 62))
until [[ $(ask "${ports[1]}" '{"cmd":"COUNT","level":"all"}') == *'"count":1}'* ]]; do
    [ "$SECONDS" -lt "$end" ] || fail "what is over is still counted after a minute"
    sleep 1
done
echo "  taken away from every replica within a minute"
"$PEERAGE" sim run "$root/simulations/expiry_under_clock_skew.toml" \
    --seeds "${SEEDS:-1000}" >"$work/seeds" 2>&1 || { tail -30 "$work/seeds"; fail "seeds"; }
grep -m1 seeds "$work/seeds" || true
verdict PASS "no value was shown after its time, and none came back"
