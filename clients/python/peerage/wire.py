"""Newline-JSON: requests to lines, lines to replies. Nothing here touches a socket.

Keys and values are bytes on the inside. A request carries them as JSON strings where all of them
are UTF-8, and as base64 where one is not; a reply says by itself which of the two it uses.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Callable, Dict, List, Mapping, Optional, Type, TypeVar, Union

from .errors import NO, UNKNOWN, OutcomeUnknownError, PeerageError, ProtocolError, RefusedError

#: Keys and values as callers give them. What is neither text nor bytes is stored as its JSON text.
Data = Union[str, bytes, bytearray, memoryview, int, float, List[Any], Dict[str, Any]]

#: How long a value lasts.
Seconds = Union[int, float, timedelta]

#: What changes nothing, and may be asked again of any node at any time.
READS = frozenset(
    {"GET", "TTL", "MGET", "SCAN", "COUNT", "CONFLICTS", "EXPLAIN", "PING", "INFO", "STATUS"}
)

#: Writes that get an id, under which nodes carry them out once.
NAMED = frozenset({"SET", "DELETE", "BULK_SET"})

#: Fields that let only some keys through.
FILTERS = frozenset({"prefix", "pattern"})

_V = TypeVar("_V")


def new_request_id() -> str:
    """A name that no other write has: a UUID of version 7, made of the time and of chance."""
    time_ms = time.time_ns() // 1_000_000 & (1 << 48) - 1
    chance = secrets.randbits(74)
    high, low = chance >> 62, chance & (1 << 62) - 1
    return f"{time_ms << 80 | 7 << 76 | high << 64 | 0b10 << 62 | low:032x}"


def to_bytes(data: Data) -> bytes:
    """The bytes that are stored for ``data``.

    Text becomes UTF-8. The surrogates with which :func:`to_text` shows other bytes become those
    bytes again, so what a text client was given can always be sent back.
    """
    if isinstance(data, str):
        return data.encode("utf-8", "surrogateescape")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if data is None:
        raise TypeError("None is neither a key nor a value; delete() removes a key")
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def seconds(ttl: Optional[Seconds]) -> Union[None, int, float]:
    """The field that says when a value ends: seconds with three decimals at most."""
    if ttl is None:
        return None
    whole = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    ms = round(whole * 1000)
    if ms < 1:
        raise ValueError("ttl must be a millisecond at least; delete() removes a key")
    return ms // 1000 if ms % 1000 == 0 else ms / 1000


def to_text(data: bytes) -> str:
    """``data`` as text. Bytes that are not UTF-8 become surrogates, as in names of files."""
    return data.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Request:
    """One command. Keys and values among its fields are bytes, alone, in lists or in dicts."""

    command: str
    fields: Mapping[str, object]

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.command in READS

    @property
    def request_id(self) -> Optional[str]:
        """The name of this write, the same at every try; nodes remember it."""
        name = self.fields.get("request_id")
        return name if isinstance(name, str) else None

    @property
    def may_repeat(self) -> bool:
        """Whether it may be sent again when it is not known what became of the first time.

        True of reads, and of writes that have an id: a node that has carried such a write out, or
        has heard of it, answers as it did and writes nothing. This is the only place that decides.
        """
        return self.is_read or self.request_id is not None

    @property
    def takes_long(self) -> bool:
        """Whether it walks through all keys, and may need all the time that there is."""
        return self.command == "COUNT" and not self.fields.keys().isdisjoint(FILTERS)

    def line(self, timeout_ms: int) -> bytes:
        """The request as it is sent to a node that has ``timeout_ms`` to answer it."""
        fields = {"cmd": self.command, **self.fields, "timeout_ms": timeout_ms}
        try:
            return _line(fields, _utf8)
        except UnicodeDecodeError:
            return _line({**fields, "encoding": "base64"}, _base64)


def _line(fields: Mapping[str, object], encode: Callable[[bytes], str]) -> bytes:
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False, default=encode)
    return text.encode("utf-8") + b"\n"


def _utf8(data: bytes) -> str:
    return data.decode("utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Reply:
    """One reply, whose fields are checked as they are taken out."""

    def __init__(self, line: bytes, request: Request, address: str) -> None:
        self.request = request
        self.address = address
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise self.malformed(f"not JSON: {line[:80]!r}") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("ok"), bool):
            raise self.malformed(f"not an object that says ok: {line[:80]!r}")
        self.fields: Dict[str, Any] = fields

    @property
    def found_nothing(self) -> bool:
        """Whether it says that the key is not there."""
        return not self.fields["ok"] and self.fields.get("code") == "not_found"

    def error(self) -> PeerageError:
        """The error that it reports."""
        text = str(self.fields.get("error", "an error without a text"))
        code = str(self.fields.get("code", "bad_reply"))
        happened = f"{self.request.command}: {text}"
        if self.fields.get("outcome") == "refused" or self.request.is_read:
            after = self.fields.get("retry_after_ms")
            after = after if isinstance(after, int) else None
            return RefusedError(happened, code, NO, self.address, after)
        request_id = self.request.request_id or self.fields.get("request_id")
        return OutcomeUnknownError(happened, code, UNKNOWN, self.address, request_id=request_id)

    def take(self, name: str, kind: Type[_V]) -> _V:
        """The field ``name``, which is a ``kind``."""
        return self.of(self.fields.get(name), name, kind)

    def of(self, raw: object, name: str, kind: Type[_V]) -> _V:
        """``raw``, which stands at ``name`` and is a ``kind``."""
        if not isinstance(raw, kind):
            raise self.malformed(f"without {name}, or with another type")
        return raw

    def data(self, raw: object, name: str) -> bytes:
        """The bytes of ``raw``, a key or value that stands at ``name``."""
        text = self.of(raw, name, str)
        if self.fields.get("encoding") != "base64":
            return text.encode("utf-8", "surrogatepass")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise self.malformed(f"whose {name} is not base64") from error

    def malformed(self, how: str) -> ProtocolError:
        """The error that this is a reply which no node would give."""
        happened = f"the reply to {self.request.command} is one {how}"
        applied = NO if self.request.is_read else UNKNOWN
        return ProtocolError(happened, "bad_reply", applied, self.address)
