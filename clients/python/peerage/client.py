"""The clients: one method a command, on top of :mod:`peerage.transport`.

What always holds: a method returns only when what it promises was acknowledged or answered, and
raises a :class:`peerage.errors.PeerageError` otherwise; "not found" is an answer, not an error.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from types import TracebackType
from typing import (
    Any,
    Callable,
    Dict,
    Generic,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from .connection import Address
from .errors import PeerageError
from .results import Conflict, Siblings, T, Version, Written
from .transport import Patience, Transport
from .wire import (
    NAMED,
    READS,
    Data,
    Reply,
    Request,
    Seconds,
    new_request_id,
    seconds,
    to_bytes,
    to_text,
)

HOST = "127.0.0.1"
PORT = 6379

#: Keys of one MGET or one page; docs/operations.md, `PAGE_KEYS_MAX`.
PAGE_KEYS_MAX = 1_000

#: Items of a batch: pairs, dicts with "key" and "value", or one mapping of keys to values.
Items = Union[Mapping[Any, Data], Iterable[Union[Tuple[Data, Data], Mapping[str, Data]]]]

_Self = TypeVar("_Self", bound="BaseClient[Any]")


class BaseClient(Generic[T]):
    """A client of one cluster, of which it knows at least one node.

    ``KVClient("127.0.0.1", 6379)`` asks that node; ``KVClient(addresses=["a:6379", "b:6379"])``
    asks the first node that answers, and another one when it fails. Any node takes any request.

    A request is repeated at another node when it gets no answer. Writes have an id, under which
    nodes carry them out once; what is not known in the end, :class:`OutcomeUnknownError` says.

    Threads may share a client; their requests then wait for one another. A plain ``get`` followed
    by a ``set`` replaces what *the connection* was shown, so threads that read and then write are
    better off with a client each, or with contexts. After a fork the child opens its own client.

    :param host: of the node; 127.0.0.1 unless told otherwise.
    :param port: for clients; 6379 unless told otherwise.
    :param timeout: seconds after which a call is over, all tries included.
    :param addresses: (host, port) or "HOST:PORT" of several nodes, instead of host and port.
    :param level: ``one``, ``sloppy``, ``quorum``, ``strict`` or ``all``; the node's default else.
    :param patience: seconds after which a node that does not answer is passed over.
    :param retry_writes: False = writes have no id, and are not repeated once they may have arrived.
    :param rounds: how often the addresses are gone through; 1 = each is tried once.
    :param token: shown to every node first; the variable PEERAGE_TOKEN unless given.
    :raises UnreachableError: when no address takes a connection.
    """

    def __init__(
        self,
        host: Optional[str] = None,
        port: Optional[int] = None,
        timeout: float = Patience.timeout,
        *,
        addresses: Optional[Sequence[Union[str, Tuple[str, int]]]] = None,
        level: Optional[str] = None,
        patience: float = Patience.per_node,
        rounds: int = Patience.rounds,
        token: Optional[str] = None,
        retry_writes: bool = True,
    ) -> None:
        if addresses is None:
            addresses = [(host or HOST, PORT if port is None else port)]
        elif host is not None or port is not None:
            raise ValueError("give host and port, or addresses, not both")
        elif isinstance(addresses, str):
            raise ValueError(f"addresses is a list, such as [{addresses!r}]")
        self._patience = Patience(timeout, patience, rounds)
        self._retry_writes = retry_writes
        self._levels: Dict[str, Any] = {"level": level}
        self._transport = Transport(
            [_address(one) for one in addresses],
            os.environ.get("PEERAGE_TOKEN") or None if token is None else token,
        )
        self._transport.connect(self._patience)

    # What existing programs use

    def set(
        self,
        key: Data,
        value: Data,
        debug: bool = False,
        *,
        context: Optional[str] = None,
        ttl: Optional[Seconds] = None,
    ) -> bool:
        """Stores ``value`` under ``key`` and returns True; see :meth:`put` for what else is known.

        :param debug: asks for simulated faults; nodes that were not started for it ignore it.
        :param context: of a read: replaces exactly what that read saw. ``NOTHING_SEEN``: replaces
            nothing. None: what the last plain read on this connection showed, else everything.
        :param ttl: seconds after which the value ends, to the millisecond. None: it never does.
        """
        self.put(key, value, context=context, debug=debug, ttl=ttl)
        return True

    def get(self, key: Data) -> Optional[T]:
        """The value of ``key``, None where it is absent; of siblings, the winner."""
        reply = self._ask("GET", key=to_bytes(key))
        return None if reply.found_nothing else self._taken(reply, "value")

    def delete(self, key: Data, *, context: Optional[str] = None) -> bool:
        """Removes ``key``, and says whether it was there. ``context`` as for :meth:`set`, except
        that None always removes everything that is there."""
        return self._ask("DELETE", key=to_bytes(key), context=context).take("deleted", bool)

    def expire(self, key: Data, ttl: Seconds) -> bool:
        """Lets the value of ``key`` end in ``ttl`` seconds; False where there is none."""
        reply = self._ask("EXPIRE", key=to_bytes(key), ttl=seconds(ttl))
        return not reply.found_nothing

    def persist(self, key: Data) -> bool:
        """Lets the value of ``key`` never end; False where there is none that would have."""
        reply = self._ask("PERSIST", key=to_bytes(key))
        return False if reply.found_nothing else reply.take("changed", bool)

    def ttl(self, key: Data) -> Optional[float]:
        """Seconds until the value of ``key`` ends, by the clock of the node that answers;
        ``math.inf`` where it never does, None where there is none."""
        reply = self._ask("TTL", key=to_bytes(key))
        if reply.found_nothing:
            return None
        left_ms = reply.fields.get("ttl_ms")
        return math.inf if left_ms is None else reply.of(left_ms, "ttl_ms", int) / 1000

    def bulk_set(
        self, items: Items, debug: bool = False, *, ttl: Optional[Seconds] = None
    ) -> bool:
        """Stores all items or none, and returns True.

        Where the cluster has more nodes than a key has replicas, readers may for a moment see some
        of the keys new and others old, unless all of them have one ``{tag}``.

        :param items: (key, value) tuples, dicts with "key" and "value", or one dict of all.
        :param ttl: of all of them, as for :meth:`set`.
        """
        pairs = items.items() if isinstance(items, Mapping) else map(_pair, items)
        encoded = [{"key": to_bytes(key), "value": to_bytes(value)} for key, value in pairs]
        self._ask("BULK_SET", items=encoded, debug=debug, ttl=seconds(ttl))
        return True

    def keys(self, *, prefix: Data = "", pattern: Data = "") -> List[T]:
        """All keys as a list, in no order that means anything; :meth:`scan` keeps memory low."""
        return list(self.scan(prefix=prefix, pattern=pattern))

    def count(self, *, prefix: Data = "", pattern: Data = "") -> int:
        """The number of keys."""
        return self._ask("COUNT", **_filters(prefix, pattern)).take("count", int)

    def ping(self) -> bool:
        """Whether a node answers."""
        try:
            return self._ask("PING").take("pong", bool)
        except PeerageError:
            return False

    def close(self) -> None:
        """Closes the connection. A later call opens another one."""
        self._transport.close()

    def reconnect(self) -> None:
        """Closes the connection and opens another one, which has been shown nothing yet."""
        self._transport.close()
        self._transport.connect(self._patience)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    # Concurrent writers

    def siblings(self, key: Data) -> Siblings[T]:
        """All values of ``key`` that are current, and the context of having seen them."""
        reply = self._ask("GET", key=to_bytes(key), siblings=True)
        values = reply.take("values", list)
        return Siblings(
            values=tuple(self._decode(reply.data(raw, "values")) for raw in values),
            context=reply.take("context", str),
            vclock=reply.take("vclock", dict),
        )

    def put(
        self,
        key: Data,
        value: Data,
        *,
        context: Optional[str] = None,
        debug: bool = False,
        ttl: Optional[Seconds] = None,
        request_id: Optional[str] = None,
    ) -> Written:
        """Like :meth:`set`, and returns what is known of the write.

        :param request_id: the id of an earlier try of this very write, to go on with it.
        """
        reply = self._ask(
            "SET",
            key=to_bytes(key),
            value=to_bytes(value),
            context=context,
            debug=debug,
            ttl=seconds(ttl),
            request_id=request_id,
        )
        return Written(
            context=reply.take("context", str),
            siblings=reply.of(reply.fields.get("siblings", 1), "siblings", int),
            acks=sum(reply.take("acks", dict).values()),
            seq=reply.take("seq", int),
            debug_ignored=reply.fields.get("debug") == "ignored",
        )

    def update(self, key: Data, change: Callable[[Tuple[T, ...]], Data]) -> Written:
        """Reads all siblings, and replaces exactly those by what ``change`` makes of them.

        ``change`` gets no values where the key is absent. What another client writes meanwhile is
        not lost: it stays beside the new value, for the next update to merge.
        """
        seen = self.siblings(key)
        return self.put(key, change(seen.values), context=seen.context)

    def conflicts(self) -> Iterator[Conflict[T]]:
        """Every key that has siblings, with all of its values."""
        for reply in self._pages("CONFLICTS", {}):
            for raw in reply.take("conflicts", list):
                entry = reply.of(raw, "conflicts", dict)
                versions = reply.of(entry.get("siblings"), "siblings", list)
                yield Conflict(
                    key=self._decode(reply.data(entry.get("key"), "key")),
                    versions=tuple(self._version(reply, version) for version in versions),
                )

    # Many keys

    def mget(self, keys: Iterable[Data]) -> List[Optional[T]]:
        """The values of ``keys``, in their order; None for those that are absent.

        Each key is read by itself: this is no snapshot of all of them.
        """
        encoded = [to_bytes(key) for key in keys]
        values: List[Optional[T]] = []
        for start in range(0, len(encoded), PAGE_KEYS_MAX):
            asked = encoded[start : start + PAGE_KEYS_MAX]
            reply = self._ask("MGET", keys=asked)
            raws = reply.take("values", list)
            if len(raws) != len(asked):
                raise reply.malformed(f"with {len(raws)} values to {len(asked)} keys")
            for raw in raws:
                values.append(None if raw is None else self._decode(reply.data(raw, "values")))
        return values

    def scan(
        self, *, prefix: Data = "", pattern: Data = "", page_size: int = PAGE_KEYS_MAX
    ) -> Iterator[T]:
        """Every key, page by page; a walk goes on at another node when one fails.

        A key that is there all the while comes exactly once, one that comes or goes may or may not.

        :param prefix: only keys that begin with it.
        :param pattern: only keys that match it, with ``*``, ``?`` and ``[...]`` as in Redis.
        :param page_size: keys asked for at once, 1,000 at most.
        """
        fields = {**_filters(prefix, pattern), "limit": page_size}
        for reply in self._pages("SCAN", fields):
            for raw in reply.take("keys", list):
                yield self._decode(reply.data(raw, "keys"))

    def scan_items(
        self, *, prefix: Data = "", pattern: Data = "", page_size: int = PAGE_KEYS_MAX
    ) -> Iterator[Tuple[T, T]]:
        """Like :meth:`scan`, with the value of each key beside it."""
        fields = {**_filters(prefix, pattern), "limit": page_size, "values": True}
        for reply in self._pages("SCAN", fields):
            for raw in reply.take("items", list):
                item = reply.of(raw, "items", dict)
                key = reply.data(item.get("key"), "key")
                yield self._decode(key), self._decode(reply.data(item.get("value"), "value"))

    # How requests are carried out, and by whom

    def using(
        self: _Self,
        *,
        level: Optional[str] = None,
        r: Optional[int] = None,
        w: Optional[int] = None,
        timeout: Optional[float] = None,
    ) -> _Self:
        """The same client, on the same connection, with another level or time to wait.

        ``client.using(level="strict", timeout=1).get("k")``; what is not given stays as it is.

        :param r: replicas that must answer a read, instead of the level's number.
        :param w: replicas that must have a write, instead of the level's number.
        """
        given = {"level": level, "r": r, "w": w}
        other = copy.copy(self)
        other._levels = {**self._levels, **_present(given)}
        if timeout is not None:
            other._patience = dataclasses.replace(self._patience, timeout=timeout)
        return other

    def explain(self, key: Data) -> Dict[str, Any]:
        """Where ``key`` lies and what each of its replicas holds, as docs/protocols.md has it."""
        return self._ask("EXPLAIN", key=to_bytes(key)).fields

    def status(self) -> Dict[str, Any]:
        """The cluster as the node sees it that is asked now, as docs/protocols.md has it."""
        return self._ask("STATUS").fields

    def info(self) -> Dict[str, Any]:
        """The node that is asked now, as docs/protocols.md has it."""
        return self._ask("INFO").fields

    def _ask(self, command: str, **fields: object) -> Reply:
        replicas = "w" if command in READS else "r"
        levels = {name: given for name, given in self._levels.items() if name != replicas}
        if command in NAMED and self._retry_writes:
            fields["request_id"] = fields.get("request_id") or new_request_id()
        request = Request(command, _present({**levels, **fields}))
        return self._transport.call(request, self._patience)

    def _pages(self, command: str, fields: Mapping[str, object]) -> Iterator[Reply]:
        cursor = "0"
        while True:
            reply = self._ask(command, cursor=cursor, **fields)
            yield reply
            before, cursor = cursor, reply.take("cursor", str)
            if cursor == "0":
                return
            if cursor == before:
                raise reply.malformed("that does not move the cursor on")

    def _taken(self, reply: Reply, name: str) -> T:
        return self._decode(reply.data(reply.fields.get(name), name))

    def _version(self, reply: Reply, raw: object) -> Version[T]:
        fields = reply.of(raw, "siblings", dict)
        return Version(
            value=self._decode(reply.data(fields.get("value"), "value")),
            dot=reply.of(fields.get("dot"), "dot", str),
            written_ms=reply.of(fields.get("written_ms"), "written_ms", int),
        )

    def _decode(self, data: bytes) -> T:
        raise NotImplementedError("KVClient and KVBytesClient say what keys and values are")


class KVClient(BaseClient[str]):
    """A client whose keys and values are text.

    It takes bytes as well. Bytes that are not UTF-8 come back as text with surrogates, as names of
    files do in Python (``os.fsdecode``), and mean the same bytes when they are sent again; a
    program that stores such bytes is better off with :class:`KVBytesClient`.
    """

    def _decode(self, data: bytes) -> str:
        return to_text(data)


class KVBytesClient(BaseClient[bytes]):
    """A client whose keys and values are bytes. It takes text as well, and stores its UTF-8."""

    def _decode(self, data: bytes) -> bytes:
        return data


def _address(given: Union[str, Tuple[str, int]]) -> Address:
    return Address.parse(given if isinstance(given, str) else f"{given[0]}:{given[1]}")


def _pair(item: Union[Tuple[Data, Data], Mapping[str, Data]]) -> Tuple[Data, Data]:
    if isinstance(item, Mapping):
        return item["key"], item["value"]
    key, value = item
    return key, value


def _filters(prefix: Data, pattern: Data) -> Dict[str, object]:
    given = {"prefix": to_bytes(prefix), "pattern": to_bytes(pattern)}
    return {name: data for name, data in given.items() if data}


def _present(fields: Mapping[str, object]) -> Dict[str, object]:
    return {name: given for name, given in fields.items() if given is not None}
