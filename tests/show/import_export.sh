#!/usr/bin/env bash
# Every package record of Debian through a cluster: imported through one node of three, all nodes
# killed with -9 at once, restarted, exported through another node. Both sides sorted by key must
# be byte-identical.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need apt-cache apt

python3 - "$work/packages.jsonl" <<'PY'
import json, subprocess, sys
dump = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True).stdout
packages = {}
for record in dump.decode("utf-8", "surrogateescape").split("\n\n"):
    fields, name = {}, None
    for line in record.split("\n"):
        if line[:1] in (" ", "\t") and name:
            fields[name] += "\n" + line
        elif ":" in line:
            name, value = line.split(":", 1)
            fields[name] = value.strip()
    if "Package" in fields:
        packages[fields["Package"]] = fields
with open(sys.argv[1], "w", encoding="utf-8") as out:
    for key, value in packages.items():
        line = json.dumps({"key": key, "value": value}, ensure_ascii=False, separators=(",", ":"))
        out.write(line + "\n")
PY
count=$(wc -l <"$work/packages.jsonl")
[ "$count" -ge "${PACKAGES_MIN:-50000}" ] ||
    fail "only $count records; run apt-get update first, or set PACKAGES_MIN"
echo "$count package records, $(wc -c <"$work/packages.jsonl") bytes"

start_ring 3
echo "importing through n1"
time "$PEERAGE" import "$work/packages.jsonl" --json-values --addr "127.0.0.1:${ports[0]}"
for node in n1 n2 n3; do kill -9 "${pids[$node]}"; done
for node in n1 n2 n3; do
    wait "${pids[$node]}" 2>/dev/null || true
    unset "pids[$node]"
done
echo "all three killed"
for index in 0 1 2; do restart_node "$index"; done
for index in 0 1 2; do wait_ready "${ports[index]}"; done
echo "exporting through n2"
time "$PEERAGE" export "$work/export.jsonl" --json-values --addr "127.0.0.1:${ports[1]}"

LC_ALL=C sort "$work/packages.jsonl" >"$work/in"
LC_ALL=C sort "$work/export.jsonl" >"$work/out"
sha256sum "$work/in" "$work/out"
cmp "$work/in" "$work/out" || fail "what came out differs from what went in"
verdict PASS "$count records byte-identical after kill -9 of all three nodes"
