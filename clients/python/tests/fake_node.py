"""A node that is played: it answers what a test tells it to, and notes what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Set, Union


class Stunt:
    """Something other than an answer that a node may do."""

    def __init__(self, name: str) -> None:
        self.name = name


#: Reads the request and closes the connection.
CLOSE = Stunt("close")
#: Reads the request and never answers.
SILENCE = Stunt("silence")
#: Closes the connection without reading all of the request.
CLOSE_UNREAD = Stunt("close unread")
#: Answers {"ok": true} and closes the connection.
ANSWER_AND_CLOSE = Stunt("answer and close")

#: What a node does with a request. After bytes that are no whole line the connection is closed.
Answer = Union[Dict[str, Any], bytes, Stunt, Callable[[Dict[str, Any]], Dict[str, Any]]]

#: Little, so that a long request is not received before it is read.
RECEIVE_BYTES = 64 * 1024

GREETING = {"cmd": "PING"}


class FakeNode:
    """Listens on a free port of the loopback. Each request takes the next of ``answers``; once
    they are used up, every answer is ``otherwise``."""

    def __init__(self, *answers: Answer, otherwise: Answer = {"ok": True}) -> None:
        self.asked: List[Dict[str, Any]] = []
        self.greeted = 0
        self.connections: Set[socket.socket] = set()
        #: What it says instead of the answer to the greeting of a connection.
        self.greeting: Answer = {"ok": True, "pong": True, "role": "peer"}
        self._answers: Deque[Answer] = deque(answers)
        self._otherwise = otherwise
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def die(self) -> None:
        """Closes everything, as the end of a process does."""
        for one in [self._listener, *self.connections]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other side was first
            one.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            self.connections.add(taken)
            thread = threading.Thread(target=self._serve, args=(taken,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, taken: socket.socket) -> None:
        try:
            with taken, taken.makefile("rb") as lines:
                while self._serve_one(taken, lines.readline):
                    pass
        except OSError:
            pass  # the client went away, or the node died
        self.connections.discard(taken)

    def _serve_one(self, taken: socket.socket, readline: Callable[[], bytes]) -> bool:
        if self.greeted and self._answers and self._answers[0] is CLOSE_UNREAD:
            self._answers.popleft()
            taken.recv(1)
            return False
        line = readline()
        if not line.endswith(b"\n"):
            return False
        request = json.loads(line)
        if request == GREETING:
            self.greeted += 1
            return self._answer(taken, request, self.greeting)
        self.asked.append(request)
        answer = self._answers.popleft() if self._answers else self._otherwise
        return self._answer(taken, request, answer)

    def _answer(self, taken: socket.socket, request: Dict[str, Any], answer: Answer) -> bool:
        if answer is CLOSE:
            return False
        if answer is SILENCE:
            return True
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Stunt):
            taken.sendall(b'{"ok":true}\n')
            return False
        line = answer if isinstance(answer, bytes) else json.dumps(answer).encode("utf-8") + b"\n"
        taken.sendall(line)
        return line.endswith(b"\n")


def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"127.0.0.1:{gone.getsockname()[1]}"


def refusal(code: str, **more: Any) -> Dict[str, Any]:
    """A refusal with this code, as a node writes it."""
    return {"ok": False, "error": "because of " + code, "code": code, "outcome": "refused", **more}
