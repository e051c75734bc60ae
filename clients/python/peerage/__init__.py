"""Client of Peerage, a masterless key-value store.

    from peerage import KVClient

    with KVClient("127.0.0.1", 6379) as client:
        client.set("name", "Ada")
        print(client.get("name"))

``KVClient`` gives keys and values as text, ``KVBytesClient`` as bytes; both take either. Every
error is a ``PeerageError`` that says what happened, whether anything was applied, and what to do.
"""

from .client import BaseClient, KVBytesClient, KVClient
from .errors import (
    OutcomeUnknownError,
    PeerageError,
    ProtocolError,
    RefusedError,
    UnreachableError,
)
from .results import NOTHING_SEEN, Conflict, Siblings, Version, Written

__version__ = "0.1.0"

__all__ = [
    "NOTHING_SEEN",
    "BaseClient",
    "Conflict",
    "KVBytesClient",
    "KVClient",
    "OutcomeUnknownError",
    "PeerageError",
    "ProtocolError",
    "RefusedError",
    "Siblings",
    "UnreachableError",
    "Version",
    "Written",
]
