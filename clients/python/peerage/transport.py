"""Asking one of several nodes, and another one when that is safe.

The rules, for which the rest of the package is written:

1. What was certainly not sent is tried at the next address, whatever it is.
2. What was refused with a code that asks for a retry is tried at the next address: a refusal means
   that nothing was applied, and nothing will be.
3. A read without a reply is tried at the next address.
4. A write without a reply, or with one that it is not known what became of it, is tried at the
   next address under the same request id: nodes carry it out once. Without an id it is *never*
   tried again. In the end it raises :class:`OutcomeUnknownError`: what a later try is refused does
   not say what became of the first.

Tries are bounded by a number of rounds through the addresses and by the time of the call. The node
that answered last is asked first.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import List, Optional, Sequence

from .connection import Address, Connection, Deadline, NoReply, NotSent
from .errors import NO, UNKNOWN, OutcomeUnknownError, PeerageError, UnreachableError
from .wire import Reply, Request

#: Pause after the first round that failed, in seconds; it doubles with each further one.
PAUSE_FIRST = 0.05
PAUSE_MAX = 1.0
#: Part of a try that is left for the way there and back, in seconds, and as a share of it.
TRAVEL_MAX = 0.25
TRAVEL_SHARE = 0.25
#: Longest time that a node takes for a request, in ms; docs/operations.md, `TIMEOUT_MS_MAX`.
TIMEOUT_MS_MAX = 60_000


@dataclass(frozen=True)
class Patience:
    """How long is waited, and how often is tried."""

    #: Seconds after which a call is over, all tries included.
    timeout: float = 10.0
    #: Seconds after which a node that does not answer is passed over.
    per_node: float = 2.0
    #: How often the list of addresses is gone through.
    rounds: int = 3

    def __post_init__(self) -> None:
        if not self.timeout > 0 or not self.per_node > 0:
            raise ValueError("timeout and patience are seconds above 0")
        if self.rounds < 1:
            raise ValueError("rounds is 1 or more: each address is tried at least once")


class Transport:
    """The addresses of a cluster and the connection that is open to one of them.

    A lock lets one call through at a time, so that no thread is given the reply of another.
    """

    def __init__(self, addresses: Sequence[Address], token: Optional[str] = None) -> None:
        if not addresses:
            raise ValueError("there must be at least one address")
        self.addresses = tuple(addresses)
        self._token = token
        self._current = 0
        self._connection: Optional[Connection] = None
        self._lock = threading.Lock()

    def connect(self, patience: Patience) -> None:
        """Opens a connection to the first address that takes one, unless one is open."""
        deadline = Deadline(patience.timeout)
        failures: List[PeerageError] = []
        with self._lock:
            for _ in self.addresses:
                try:
                    self._connected(patience, deadline)
                    return
                except NotSent as error:
                    failures.append(self._unreachable(str(error)))
                    self._move_on()
        raise _most_telling(failures, self.addresses)

    def call(self, request: Request, patience: Patience) -> Reply:
        """The reply to ``request`` of the first node that carries it out or finds nothing."""
        deadline = Deadline(patience.timeout)
        with self._lock:
            return self._call(request, patience, deadline)

    def close(self) -> None:
        """Closes the connection; the next call opens another one."""
        with self._lock:
            self._drop()

    def _call(self, request: Request, patience: Patience, deadline: Deadline) -> Reply:
        failures: List[PeerageError] = []
        pause = PAUSE_FIRST
        for number in range(patience.rounds * len(self.addresses)):
            if number and number % len(self.addresses) == 0:
                wait = _wait_before_round(pause, failures[-len(self.addresses):])
                if wait >= deadline.left():
                    break
                time.sleep(wait)
                pause = min(2 * pause, PAUSE_MAX)
            if deadline.left() == 0:
                break
            try:
                return self._try_once(request, patience, deadline)
            except PeerageError as error:
                failures.append(error)
                is_open = isinstance(error, OutcomeUnknownError) and request.may_repeat
                if not error.may_retry and not is_open:
                    raise _most_telling(failures, self.addresses) from error
            self._move_on()
        raise _most_telling(failures, self.addresses)

    def _try_once(self, request: Request, patience: Patience, deadline: Deadline) -> Reply:
        try:
            connection = self._connected(patience, deadline)
            most = patience.timeout if request.takes_long else patience.per_node
            seconds = min(most, deadline.left())
            line = request.line(_node_ms(seconds))
            # There is nowhere else to go with a write that has no id, so its reply is waited for
            # to the end.
            until = Deadline(seconds) if request.may_repeat else deadline
            reply = Reply(connection.exchange(line, until), request, str(connection.address))
        except NotSent as error:
            raise self._unreachable(f"{request.command}: {error}") from error
        except NoReply as error:
            raise self._no_reply(request, error) from error
        except BaseException:
            # An interrupt, or a reply that is none: what comes next on this connection would be
            # taken for the reply to another request.
            self._drop()
            raise
        if reply.fields["ok"] or reply.found_nothing:
            return reply
        raise reply.error()

    def _connected(self, patience: Patience, deadline: Deadline) -> Connection:
        if self._connection is not None and not self._connection.is_usable():
            self._drop()
        if self._connection is None:
            address = self.addresses[self._current]
            until = Deadline(min(patience.per_node, deadline.left()))
            self._connection = Connection(address, until, self._token)
        return self._connection

    def _no_reply(self, request: Request, error: NoReply) -> PeerageError:
        failure = self._unreachable(f"{request.command}: {error}")
        self._drop()
        if request.is_read:
            return failure
        return OutcomeUnknownError(
            failure.happened,
            "outcome_unknown",
            UNKNOWN,
            failure.address,
            request_id=request.request_id,
        )

    def _unreachable(self, happened: str) -> UnreachableError:
        address = str(self.addresses[self._current])
        return UnreachableError(happened, "unreachable", NO, address)

    def _move_on(self) -> None:
        self._drop()
        self._current = (self._current + 1) % len(self.addresses)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _node_ms(seconds: float) -> int:
    """What a node is told that it has, of a try that takes ``seconds``."""
    travel = min(TRAVEL_MAX, TRAVEL_SHARE * seconds)
    return min(max(1, int(1000 * (seconds - travel))), TIMEOUT_MS_MAX)


def _wait_before_round(pause: float, failures: Sequence[PeerageError]) -> float:
    """As long as the nodes ask for, and not the same for all clients."""
    asked_ms = max(error.retry_after_ms or 0 for error in failures)
    return max(asked_ms / 1000, pause * random.uniform(0.5, 1.0))


def _most_telling(failures: Sequence[PeerageError], addresses: Sequence[Address]) -> PeerageError:
    """What is raised after the last try: the word of a node says more than its silence."""
    unknown = [error for error in failures if error.applied == UNKNOWN]
    if unknown:
        return unknown[-1]
    spoken = [error for error in failures if not isinstance(error, UnreachableError)]
    if spoken:
        return spoken[-1]
    if not failures:
        return UnreachableError("the time ran out before a node was asked", "unreachable")
    if len(addresses) == 1:
        return failures[-1]
    last = {error.address: error.happened for error in failures}
    reasons = "; ".join(f"{address}: {happened}" for address, happened in last.items())
    return UnreachableError(f"no node could be asked ({reasons})", "unreachable")
