#!/usr/bin/env bash
# The page of a failing run, in headless Chromium and from disk: no error on its console, nothing
# loaded, no label over another one, and a click on the violation leaves exactly the causal past
# that the simulator computed. Runs the story of page.toml and a random seed, both with a planted
# bug. `PICTURE=FILE.png` also saves the picture of the README.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -z "${PEERAGE:-}" ]; then
    (cd "$root" && cargo build --locked --quiet --features planted-bugs)
    PEERAGE=${CARGO_TARGET_DIR:-$root/target}/debug/peerage
fi
source "$root/tests/show/lib.sh"
need npm npm
need node nodejs
need chromium chromium

broken() { # broken NAME WORDS...: a run that must break a promise, with its reports
    local name=$1 code=0
    shift
    "$PEERAGE" sim run "$@" --html "$work/$name.html" --json "$work/$name.json" \
        --shiviz "$work/$name.log" >"$work/$name.txt" || code=$?
    [ "$code" = 1 ] || fail "$name: exit code $code, expected 1"
    echo "  $name: $(wc -c <"$work/$name.html") bytes, $(grep -c '"id":' "$work/$name.json") events"
}

echo "== runs"
broken story "$root/tests/show/page.toml"
broken seed --seed 1 --planted replica-overwrites
"$PEERAGE" sim run "$root/tests/show/page.toml" --html "$work/again.html" >/dev/null || true
cmp "$work/story.html" "$work/again.html" || fail "two pages of one seed differ"

echo "== browser: $(chromium --version)"
(cd "$work" && npm install --silent --no-audit --no-fund playwright-core@1)
NODE_PATH="$work/node_modules" node "$root/tests/show/page.js" "$(command -v chromium)" \
    "$work/story" "$work/seed" || fail "the page is not right"
verdict PASS "two pages, no errors, no overlaps, pasts as computed"
