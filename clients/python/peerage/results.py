"""What requests return beyond plain keys, values and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Generic, Optional, Tuple, TypeVar

#: Text or bytes: what a client gives keys and values as.
T = TypeVar("T", str, bytes)

#: The context of a writer that has read nothing: what is there stays, as a sibling.
NOTHING_SEEN = ""


@dataclass(frozen=True)
class Siblings(Generic[T]):
    """All values of a key that no other value has superseded, and the context that they make."""

    #: The winner, which a plain ``get`` shows, comes first; empty where the key is absent.
    values: Tuple[T, ...]
    #: A write that carries it replaces exactly these values.
    context: str
    #: Per actor, the newest of its writes that this read knows of.
    vclock: Dict[str, int]

    @property
    def value(self) -> Optional[T]:
        """The winner; None where the key is absent."""
        return self.values[0] if self.values else None

    @property
    def in_conflict(self) -> bool:
        """Whether there is something to merge."""
        return len(self.values) > 1


@dataclass(frozen=True)
class Written:
    """What is known of a write that was acknowledged."""

    #: What the writer has seen now: with it the next write replaces this one.
    context: str
    #: How many values the key has at the least; above 1 there is something to merge.
    siblings: int
    #: Replicas of the key that have the write on stable storage.
    acks: int
    #: Grows with the writes that a node answers; means nothing else.
    seq: int
    #: Whether ``debug=True`` was sent to a node that was not started to inject faults.
    debug_ignored: bool


@dataclass(frozen=True)
class Version(Generic[T]):
    """One of the values of a key in conflict."""

    value: T
    #: Names the write: its actor and number.
    dot: str
    #: When it was written, by the clock of the node that took it, in ms since 1970.
    written_ms: int


@dataclass(frozen=True)
class Conflict(Generic[T]):
    """A key that holds values whose writers did not know of one another."""

    key: T
    #: The winner comes first.
    versions: Tuple[Version[T], ...]
