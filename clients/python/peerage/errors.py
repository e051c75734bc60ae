"""What can go wrong with a request, and what its caller should do about it.

Every error answers three questions: what happened (``happened`` and the stable ``code``), whether
anything was applied (``applied``, "no" or "unknown"), and what to do next (``advice``). The codes
of nodes are those of docs/protocols.md; three more are the client's own: ``unreachable``,
``bad_reply``, and ``outcome_unknown`` where it is the reply that got lost.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

NO = "no"
UNKNOWN = "unknown"


class Code(NamedTuple):
    """What a code asks of its reader."""

    advice: str
    #: Whether the same request may simply be sent again, to this node or another one.
    retry: bool = False


CODES: Dict[str, Code] = {
    "bad_request": Code("Correct the request."),
    "not_supported": Code("Do what the text says instead."),
    "key_too_large": Code("Shorten the key."),
    "value_too_large": Code("Split the value, or raise value_bytes_max on every node."),
    "batch_too_large": Code("Send several smaller batches."),
    "duplicate_key": Code("Report it: a node should not answer this to a client."),
    "not_one_group": Code("Give the keys of the batch one {tag}, or do without require."),
    "bad_context": Code("Read the key again and write with the context of that reply."),
    "bad_level": Code("Use r and w between 1 and the number of replicas, or a level."),
    "bad_cursor": Code("Start the scan again."),
    "request_id_reused": Code("Give each operation an id of its own."),
    "request_id_refused": Code(
        "Its outcome was asked for before this try came: give a new write a new id."
    ),
    "unavailable": Code("Retry later, use a lower level, or bring the named nodes back.", True),
    "no_cluster": Code("Wait until the node belongs to a cluster; status() says for what.", True),
    "overloaded": Code("Retry after a while, with fewer requests at once.", True),
    "disk_full": Code("Free space on the nodes; reads and deletes still work."),
    "out_of_memory": Code("Delete keys or add nodes; reads and deletes still work."),
    "damaged": Code("Restore the key, or write it anew; explain() shows each replica."),
    "too_many_siblings": Code("Read the siblings, merge them, write with their context."),
    "timed_out": Code("Retry, with more time.", True),
    "shutting_down": Code("Retry at another node.", True),
    "outcome_unknown": Code("Send it again with its request_id; without one, read the key first."),
    "not_authenticated": Code("Give KVClient a token, or set PEERAGE_TOKEN."),
    "wrong_token": Code("Give the token that `peerage token create` printed."),
    "too_many_failures": Code("Wait for a minute, then give the right token."),
    "not_permitted": Code("Use a token whose role reaches so far."),
    "no_tokens": Code("Leave the token out."),
    "unreachable": Code("Check that a node runs at the address, or name more addresses.", True),
    "bad_reply": Code("Check that the address is that of a node's port for clients."),
}

_NO_ADVICE = Code("Look the code up in the documentation of the node's version.")


class PeerageError(Exception):
    """A request did not return what was asked for."""

    def __init__(
        self,
        happened: str,
        code: str,
        applied: str = NO,
        address: Optional[str] = None,
        retry_after_ms: Optional[int] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(happened)
        #: What happened, in words.
        self.happened = happened
        #: Stable name of the cause; never changes its meaning.
        self.code = code
        #: "no": not applied, now or later. "unknown": it may have been applied, or may still be.
        self.applied = applied
        #: HOST:PORT of the node that answered or failed, where it was one.
        self.address = address
        #: How long the node asks to be left alone, if it does.
        self.retry_after_ms = retry_after_ms
        #: The id of the write, where it had one: a later try under it is the same write.
        self.request_id = request_id

    @property
    def advice(self) -> str:
        """What to do next."""
        return CODES.get(self.code, _NO_ADVICE).advice

    @property
    def may_retry(self) -> bool:
        """Whether sending the same request again is safe and has a chance."""
        return self.applied == NO and CODES.get(self.code, _NO_ADVICE).retry

    def __str__(self) -> str:
        where = f"{self.address}: " if self.address else ""
        effect = "Nothing was applied." if self.applied == NO else "It may have been applied."
        return f"{where}{self.happened} [{self.code}]. {effect} {self.advice}"

    def __reduce__(self) -> Tuple[object, ...]:
        """Errors travel between processes with all that they know."""
        known = (self.happened, self.code, self.applied, self.address, self.retry_after_ms)
        return type(self), (*known, self.request_id)


class RefusedError(PeerageError):
    """A node refused the request: nothing was applied, and nothing will be."""


class UnreachableError(PeerageError, ConnectionError):
    """No node could be asked, or none answered a read: nothing was applied."""


class OutcomeUnknownError(PeerageError):
    """A write may or may not have been applied, and may still be.

    It was tried until the time was up, under one ``request_id``. Sent again under it, within ten
    minutes, it is still the same write.
    """


class ProtocolError(PeerageError):
    """A reply is not what a node would say."""
