#!/usr/bin/env bash
# Compares Peerage with Redis and etcd on this machine: benches/peers/run.sh [--nodes 3] [...]
# Uses redis-server and etcd where they are installed; on Debian it unpacks those that are not into
# target/peers, without installing or starting anything. `run.sh --help` lists the arguments.
set -euo pipefail
cd "$(dirname "$0")/../.."

unpacked="$PWD/target/peers"
export PATH="$PATH:/usr/sbin:$unpacked/usr/bin"

# fetch PROGRAM PACKAGE...: the packages of Debian that hold a program that is missing.
fetch() {
    local program=$1
    shift
    command -v "$program" >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        echo "$program is not installed and is left out; your system's packages may have it" >&2
        return
    fi
    mkdir -p "$unpacked"
    (cd "$unpacked" && apt-get download -qq "$@" && for package in *.deb; do
        dpkg-deb -x "$package" .
    done) || echo "$program could not be had and is left out; try apt-get install $*" >&2
}
fetch redis-server redis-server redis-tools
fetch etcd etcd-server

exec cargo bench --quiet --bench peers -- "$@"
