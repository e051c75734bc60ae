"""Clients that are idle, slow, deaf or mad, and what an honest one notices of them.

usage: hostile.py PORT PID IDLE SLOW DEAF SECONDS BUDGET_BYTES
"""
import os, random, socket, sys, time

PORT, PID, IDLE, SLOW, DEAF, SECONDS, BUDGET = (int(word) for word in sys.argv[1:8])
VALUE = b"v" * 100
LARGE = 512 * 1024


def memory():
    with open(f"/proc/{PID}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def command(*words):
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


class Honest:
    """One connection that asks for one thing at a time, and notes how long it took."""

    def __init__(self):
        self.stream = socket.create_connection(("127.0.0.1", PORT))
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.random = random.Random(1)

    def ask(self, *words, answer_bytes=None):
        self.stream.sendall(command(*words))
        answer = self.stream.recv(65536)
        while not answer.endswith(b"\r\n") or (answer_bytes and len(answer) < answer_bytes):
            more = self.stream.recv(65536)
            if not more:
                raise SystemExit("the honest client was closed")
            answer += more
        if answer.startswith(b"-"):
            raise SystemExit(f"the honest client was refused: {answer}")
        return answer

    def measure(self, seconds):
        """Times of reads and writes in milliseconds."""
        reads, writes = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            key = b"honest%d" % self.random.randrange(1000)
            start = time.perf_counter()
            self.ask(b"SET", key, VALUE)
            middle = time.perf_counter()
            self.ask(b"GET", key)
            writes.append((middle - start) * 1000)
            reads.append((time.perf_counter() - middle) * 1000)
            # 200 requests a second: what is measured is the node, not this program.
            time.sleep(0.01)
        return sorted(reads), sorted(writes)


def at(times, part):
    return times[min(int(len(times) * part), len(times) - 1)]


def connect():
    stream = socket.socket()
    stream.connect(("127.0.0.1", PORT))
    stream.setblocking(False)
    return stream


def send(stream, data):
    try:
        return stream.send(data)
    except BlockingIOError:
        return 0


class Crowd:
    """The others; `step` is called all the time and does a little."""

    def __init__(self):
        self.random = random.Random(2)
        self.closed = {"idle": 0, "slow": 0, "deaf": 0, "mad": 0}
        self.idle = [connect() for _ in range(IDLE)]
        for stream in self.idle:
            stream.send(b"PING\r\n")
        self.slow = [connect() for _ in range(SLOW)]
        for stream in self.slow:
            stream.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n")
        self.deaf = []
        for _ in range(DEAF):
            stream = socket.socket()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.connect(("127.0.0.1", PORT))
            stream.setblocking(False)
            send(stream, command(b"GET", b"large") * 64)
            self.deaf.append(stream)

    def step(self):
        self.madness()
        for name in ("slow", "deaf"):
            streams = getattr(self, name)
            if not streams:
                continue
            for stream in self.random.sample(streams, min(20, len(streams))):
                try:
                    send(stream, b"x" if name == "slow" else command(b"GET", b"large"))
                except OSError:
                    stream.close()
                    streams.remove(stream)
                    self.closed[name] += 1

    def madness(self):
        """Random bytes, and the beginnings of true requests, on new connections."""
        starts = [b"", b"*", b"{", b"*3\r\n$", b'{"cmd":"SET","key":', b"\x16\x03\x01", b"GET "]
        stream = connect()
        send(stream, self.random.choice(starts) + self.random.randbytes(512))
        time.sleep(0.002)
        stream.close()
        self.closed["mad"] += 1

    def count_idle(self):
        alive = 0
        for stream in self.idle:
            try:
                alive += stream.recv(64) != b""
            except BlockingIOError:
                alive += 1
            except OSError:
                pass
        return alive


def row(name, times):
    cells = "  ".join(f"{part} {at(times, share):7.3f}" for part, share in
                      (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)))
    print(f"  {name:<28} {cells}  of {len(times)}", flush=True)


def main():
    honest = Honest()
    honest.ask(b"SET", b"large", b"L" * LARGE)
    honest.measure(3)
    before = memory()
    calm_reads, calm_writes = honest.measure(SECONDS)
    row("alone: GET (ms)", calm_reads)
    row("alone: SET (ms)", calm_writes)
    pid = os.fork()
    if pid == 0:
        crowd(os.getppid())
    # Until all are connected, and where memory went over its budget, it was relieved.
    wait_for_crowd()
    most, reads, writes = memory(), [], []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        some_reads, some_writes = honest.measure(0.5)
        reads += some_reads
        writes += some_writes
        most = max(most, memory())
    reads.sort()
    writes.sort()
    row("in the crowd: GET (ms)", reads)
    row("in the crowd: SET (ms)", writes)
    answer = honest.ask(b"INFO", b"clients").decode()
    clients = next(line for line in answer.split() if line.startswith("connected_clients"))
    print(f"  {clients}; memory {before >> 20} MiB before, {most >> 20} MiB at most", flush=True)
    os.kill(pid, 15)
    os.waitpid(pid, 0)
    ratios = at(reads, 0.99) / at(calm_reads, 0.99), at(writes, 0.99) / at(calm_writes, 0.99)
    print(f"  p99 in the crowd / alone: GET {ratios[0]:.2f}, SET {ratios[1]:.2f}", flush=True)
    # Beside the budget for what clients keep: 8 KiB of each connection itself, and what is on its
    # way in the node.
    allowed = before + BUDGET + (IDLE + SLOW + DEAF) * 8192 + (64 << 20)
    if most > allowed:
        raise SystemExit(f"memory: {most >> 20} MiB, allowed {allowed >> 20} MiB")
    return 0 if max(ratios) <= 2 else 3


def wait_for_crowd():
    probe = Honest()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        answer = probe.ask(b"INFO", b"clients").decode()
        count = next(line for line in answer.split() if line.startswith("connected_clients"))
        # Deaf ones are closed while others are still connecting.
        if int(count.split(":")[1]) >= IDLE + SLOW // 2:
            time.sleep(2)
            return
        time.sleep(0.2)
    raise SystemExit("the crowd did not come in")


def crowd(parent):
    others = Crowd()
    print(f"  the crowd: {IDLE} idle, {SLOW} slow, {DEAF} that never read", flush=True)
    import signal

    def stop(*_):
        alive = others.count_idle()
        gone = ", ".join(f"{count} {name}" for name, count in others.closed.items() if count)
        print(f"  idle ones still connected: {alive} of {IDLE}; closed or ended: {gone}", flush=True)
        os._exit(0 if alive == IDLE else 1)
    signal.signal(signal.SIGTERM, stop)
    while os.getppid() == parent:
        others.step()
        time.sleep(0.02)
    os._exit(1)


sys.exit(main())
