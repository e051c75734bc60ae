"""One connection to one node: a line out, a line in.

What always holds: the connection tells apart what was certainly not sent (:class:`NotSent`) from
what may have been received (:class:`NoReply`). A node carries out a line only once it has its end,
so a request whose last byte the system did not take was not sent. And a new connection begins with
a PING, or with the token where there is one: that a system takes a connection does not yet mean
that a node is there to serve it.
"""

from __future__ import annotations

import json
import socket
import time
from typing import NamedTuple, Optional

#: Longest reply that is read. Nodes stay well below: their limit is 64 MiB of keys and values.
REPLY_BYTES_MAX = 256 * 1024 * 1024

_CHUNK_BYTES = 64 * 1024
_GREETING = b'{"cmd":"PING"}\n'


class NotSent(Exception):
    """The node cannot have carried out the request."""


class NoReply(Exception):
    """The node may have carried out the request, and its reply will not come."""


class Address(NamedTuple):
    """Where a node listens for clients."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """HOST:PORT; an IPv6 address in brackets."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:6379 or [::1]:6379")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Deadline:
    """A moment that does not move, whatever the wall clock does."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; 0 once it is over."""
        return max(0.0, self._end - time.monotonic())


class Connection:
    """An open connection, with at most one request under way."""

    def __init__(
        self, address: Address, deadline: Deadline, token: Optional[str] = None
    ) -> None:
        self.address = address
        self._out_of_step = False
        try:
            self._socket = socket.create_connection(address, max(deadline.left(), 0.001))
        except OSError as error:
            raise NotSent(f"no connection: {error}") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._greet(deadline, token)
        except BaseException:
            self.close()
            raise

    def is_usable(self) -> bool:
        """Whether the node still holds its end and has nothing to say unasked.

        A node that died between two requests is found here, before a write is entrusted to it.
        """
        if self._out_of_step:
            return False
        self._socket.settimeout(0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def exchange(self, line: bytes, deadline: Deadline) -> bytes:
        """Sends ``line`` and returns the line that answers it, without its end."""
        self._send(line, deadline)
        return self._receive(deadline)

    def close(self) -> None:
        """Closes this end."""
        self._socket.close()

    def _greet(self, deadline: Deadline, token: Optional[str]) -> None:
        greeting = _GREETING
        if token is not None:
            greeting = json.dumps({"cmd": "AUTH", "token": token}).encode() + b"\n"
        try:
            reply = self.exchange(greeting, deadline)
        except NoReply as error:
            raise NotSent(f"connected, but {error}") from error
        if not reply.startswith(b"{"):
            # Such as that of a node that has too many clients, which says so in Redis' words.
            raise NotSent(f"turned away: {reply[:80].decode('ascii', 'replace').strip()}")
        # A node that asks for no token takes everybody; what else it says to a PING is left to the
        # first request.
        if token is not None and not _lets_in(reply):
            raise NotSent(f"not let in: {reply[:300].decode('utf-8', 'replace').strip()}")

    def _send(self, line: bytes, deadline: Deadline) -> None:
        rest = memoryview(line)
        while rest:
            try:
                self._await(deadline)
                rest = rest[self._socket.send(rest):]
            except OSError as error:
                raise NotSent(f"the connection broke before all was sent: {error}") from error

    def _receive(self, deadline: Deadline) -> bytes:
        received = bytearray()
        while len(received) <= REPLY_BYTES_MAX:
            try:
                self._await(deadline)
                chunk = self._socket.recv(_CHUNK_BYTES)
            except OSError as error:
                raise NoReply(f"no reply came: {error}") from error
            if not chunk:
                raise NoReply("no reply came: the node closed the connection")
            end = chunk.find(b"\n")
            if end >= 0:
                self._out_of_step = end + 1 < len(chunk)
                return bytes(received + chunk[:end])
            received += chunk
        raise NoReply(f"the reply has more than {REPLY_BYTES_MAX} bytes")

    def _await(self, deadline: Deadline) -> None:
        """Lets the next operation of the socket take until ``deadline``."""
        left = deadline.left()
        if left == 0:
            raise socket.timeout("timed out")
        self._socket.settimeout(left)


def _lets_in(reply: bytes) -> bool:
    """Whether the answer to AUTH lets the connection in."""
    try:
        answer = json.loads(reply)
    except ValueError:
        return False
    return answer.get("ok") is True or answer.get("code") == "no_tokens"
