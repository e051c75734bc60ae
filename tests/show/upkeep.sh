#!/usr/bin/env bash
# Keys are overwritten at random on a file system of limited size, for a given time; then the node
# is killed and started again. Shows three figures and fails where one is beyond its bound:
#   space    most bytes of the log, at most live bytes / 0.5 and the segments under way
#   p99      of the writes, at most ten times their median; beside it the same of a file to which
#            the disk alone appends, for on a busy machine that is more than ten already
#   restart  from the start of the process to the first read, less than 3 s
#
#   tests/show/upkeep.sh [SECONDS [KEYS]]      120 s and 1,000,000 keys; PEERAGE_FULL=1: one hour
#
# Where this user may mount, the data lie on a file system of 4 GiB in a loop-mounted file.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

seconds=${1:-120}
[ "${PEERAGE_FULL:-0}" = 1 ] && seconds=${1:-3600}
keys=${2:-1000000}
segment=$((16 * 1024 * 1024))
device=
need python3 python3

before_removal() {
    if mountpoint -q "$work/disk"; then umount -l "$work/disk"; fi
    if [ -n "$device" ]; then losetup --detach "$device" || true; fi
}

limited_disk() { # a file system of 4 GiB at $work/disk
    local make=mkfs.ext4
    command -v mkfs.xfs >/dev/null && make=mkfs.xfs
    truncate -s 4G "$work/image" && "$make" -q "$work/image" >/dev/null || return 1
    device=$(losetup --find --show "$work/image") || return 1
    mount "$device" "$work/disk"
}

mkdir "$work/disk"
place="a file system of 4 GiB"
if ! limited_disk 2>"$work/mount.log"; then
    place="the disk of this machine (no right to mount: $(head -1 "$work/mount.log"))"
fi
data=$work/disk
mapfile -t port < <(free_ports 2)
start n1 "${port[0]}" "${port[1]}" --segment-bytes "$segment"
wait_ready "${port[0]}"

cat >"$work/load.py" <<'PY'
"""Fills PORT with KEYS keys, then overwrites them for SECONDS from a few processes."""
import multiprocessing
import os
import random
import socket
import sys
import time

PORT, KEYS, SECONDS, FOLDER, SEGMENT = sys.argv[1:]
PORT, KEYS, SECONDS, SEGMENT = int(PORT), int(KEYS), float(SECONDS), int(SEGMENT)
WRITERS = 4


def connect():
    link = socket.create_connection(("127.0.0.1", PORT))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def command(number):
    key = b"key:%09d" % number
    value = random.randbytes(50).hex().encode()
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$100\r\n%s\r\n" % (len(key), key, value)


def fill(part):
    link = connect()
    replies = link.makefile("rb")
    for first in range(part, KEYS, WRITERS * 200):
        numbers = range(first, min(KEYS, first + WRITERS * 200), WRITERS)
        link.sendall(b"".join(command(number) for number in numbers))
        for _ in numbers:
            line = replies.readline()
            if line != b"+OK\r\n":
                sys.exit(f"a write was answered {line!r}")


def overwrite(part, spans):
    random.seed(part)
    link = connect()
    end = time.monotonic() + SECONDS
    counts, refused = {}, 0
    while True:
        begun = time.monotonic()
        if begun >= end:
            break
        link.sendall(command(random.randrange(KEYS)))
        reply = link.recv(4096)
        took = int((time.monotonic() - begun) * 1e6)
        # Classes of 5 %, so that an hour fits the memory.
        width = max(1, took // 20)
        took -= took % width
        counts[took] = counts.get(took, 0) + 1
        refused += reply != b"+OK\r\n"
    spans.put((counts, refused))


def beside(spans):
    """What the disk does without the node: appends and syncs, some fifty a second."""
    end = time.monotonic() + SECONDS
    spent = []
    with open(os.path.join(os.path.dirname(FOLDER), "beside"), "wb", buffering=0) as file:
        file.write(bytes(4 << 20))
        os.fsync(file.fileno())
        while time.monotonic() < end:
            begun = time.monotonic()
            os.pwrite(file.fileno(), bytes(512), len(spent) % 8000 * 512)
            os.fdatasync(file.fileno())
            spent.append(int((time.monotonic() - begun) * 1e6))
            time.sleep(0.02)
    spans.put(sorted(spent))


def info():
    link = connect()
    link.sendall(b"*2\r\n$4\r\nINFO\r\n$7\r\nstorage\r\n")
    text = link.recv(65536).decode()
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value for name, value in pairs}


def log_bytes():
    total = 0
    for name in os.listdir(FOLDER):
        try:
            total += os.stat(os.path.join(FOLDER, name)).st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def run(target, arguments):
    process = multiprocessing.Process
    workers = [process(target=target, args=(part, *arguments)) for part in range(WRITERS)]
    for worker in workers:
        worker.start()
    return workers


begun = time.monotonic()
for worker in run(fill, ()):
    worker.join()
    if worker.exitcode:
        sys.exit("the node could not be filled")
print(f"{KEYS:,} keys in {time.monotonic() - begun:.0f} s", flush=True)
spans = multiprocessing.Queue()
disk_spans = multiprocessing.Queue()
disk = multiprocessing.Process(target=beside, args=(disk_spans,))
disk.start()
workers = run(overwrite, (spans,))
end = time.monotonic() + SECONDS
worst_moments = []
while time.monotonic() < end:
    time.sleep(min(2.0, max(0.0, end - time.monotonic())))
    held, live = log_bytes(), int(info()["storage_live_bytes"])
    worst_moments = [max([*worst_moments, (held - 2 * live, held, live)])]
results = [spans.get() for _ in workers]
of_disk = disk_spans.get()
for worker in [*workers, disk]:
    worker.join()
counts = {}
for part, _ in results:
    for took, count in part.items():
        counts[took] = counts.get(took, 0) + count
total = sum(counts.values())


def percentile(share):
    left = share * total
    for took in sorted(counts):
        left -= counts[took]
        if left <= 0:
            return took
    return max(counts)


p50, p99, worst = percentile(0.5), percentile(0.99), max(counts)
facts = info()
appended, moved = int(facts["storage_appended_bytes"]), int(facts["storage_moved_bytes"])
_, held, live = worst_moments[0]
refused = sum(part[1] for part in results)
print(f"{total:,} overwrites, {total / SECONDS:,.0f} a second, {refused} refused")
print(f"segments compacted: {facts['storage_segments_compacted']}, write amplification "
      f"{(appended + moved) / appended:.2f}")
print(f"space: {held / 1e6:,.0f} MB of log, {live / 1e6:,.0f} MB live at the worst moment: "
      f"live / {live / held:.2f}")
print(f"p99: {p99:,} us, median {p50:,} us, worst {worst:,} us: {p99 / p50:.1f} x the median")
disk_p50, disk_p99 = (of_disk[int(len(of_disk) * share)] for share in (0.5, 0.99))
print(f"the disk alone: p99 {disk_p99:,} us, median {disk_p50:,} us: {disk_p99 / disk_p50:.1f} x")
wrong = []
if refused:
    wrong.append("writes were refused")
if held > 2 * live + 5 * SEGMENT:
    wrong.append("the log takes more than live / 0.5 and five segments")
if p99 > 10 * p50:
    wrong.append("the p99 is more than ten times the median")
print("; ".join(wrong) or "within bounds", flush=True)
sys.exit(bool(wrong))
PY
status=0
python3 "$work/load.py" "${port[0]}" "$keys" "$seconds" "$data/n1/log" "$segment" || status=1

kill_node n1
begun=$(date +%s%N)
start n1 "${port[0]}" "${port[1]}" --segment-bytes "$segment"
until ask "${port[0]}" '{"cmd":"GET","key":"key:000000007"}' 2>/dev/null | grep -q '"value"'; do
    if [ $((($(date +%s%N) - begun) / 1000000000)) -ge 60 ]; then
        cat "$work/n1.log"
        fail "no read in 60 s"
    fi
    sleep 0.02
done
restart_ms=$((($(date +%s%N) - begun) / 1000000))
echo "restart: $restart_ms ms to the first read of $keys keys"
[ "$restart_ms" -lt 3000 ] || status=1
[ "$status" = 0 ] || fail "a figure is beyond its bound"
verdict PASS "$keys keys overwritten for $seconds s on $place: space, p99 and restart are in bounds"
