"""Which requests are sent again, where to, and how often: the rules of peerage/transport.py."""

import socket
import time
import unittest
from unittest import mock

from peerage import KVClient, OutcomeUnknownError, ProtocolError, RefusedError, UnreachableError
from peerage.connection import Connection
from peerage.transport import Patience

from .fake_node import (
    ANSWER_AND_CLOSE,
    CLOSE,
    CLOSE_UNREAD,
    SILENCE,
    FakeNode,
    nobody,
    refusal,
)

WRITTEN = {"ok": True, "seq": 7, "context": "T", "acks": {"home": 2, "fallback": 0}}
VALUE = {"ok": True, "value": "1"}

#: How long a silent node is waited for: long enough for a busy machine to answer a greeting.
SILENCE_SECONDS = 1.0


class Base(unittest.TestCase):
    def node(self, *answers, **options):
        node = FakeNode(*answers, **options)
        self.addCleanup(node.die)
        return node

    def client(self, *nodes, **options):
        addresses = [node if isinstance(node, str) else node.address for node in nodes]
        client = KVClient(addresses=addresses, **{"patience": 20, "timeout": 20, **options})
        self.addCleanup(client.close)
        return client


class Reads(Base):
    def test_a_read_without_a_reply_is_asked_of_the_next_node(self):
        for stunt in [CLOSE, SILENCE, CLOSE_UNREAD, b'{"ok":tr']:
            first, second = self.node(stunt), self.node(VALUE)
            patience = SILENCE_SECONDS if stunt is SILENCE else 20
            self.assertEqual(self.client(first, second, patience=patience).get("a"), "1")
            self.assertEqual(len(second.asked), 1)

    def test_a_read_from_one_node_only_is_asked_of_it_again(self):
        node = self.node(CLOSE, VALUE)
        self.assertEqual(self.client(node).get("a"), "1")
        self.assertEqual((len(node.asked), node.greeted), (2, 2))

    def test_the_node_that_answered_last_is_asked_first(self):
        first, second = self.node(CLOSE), self.node(otherwise=VALUE)
        client = self.client(first, second)
        for _ in range(5):
            client.get("a")
        self.assertEqual((len(first.asked), len(second.asked)), (1, 5))

    def test_a_reply_that_is_none_is_an_error_and_ends_its_connection(self):
        node = self.node(b"what?\n", VALUE)
        client = self.client(node)
        with self.assertRaises(ProtocolError) as caught:
            client.get("a")
        self.assertEqual(caught.exception.applied, "no")
        self.assertEqual(client.get("a"), "1")
        self.assertEqual(node.greeted, 2)

    def test_a_scan_goes_on_at_the_next_node_where_it_was(self):
        first = self.node({"ok": True, "keys": ["a"], "cursor": "17"}, CLOSE)
        second = self.node({"ok": True, "keys": ["b"], "cursor": "0"})
        self.assertEqual(self.client(first, second).keys(), ["a", "b"])
        self.assertEqual(second.asked[0]["cursor"], "17")


class Writes(Base):
    def test_a_write_without_a_reply_goes_to_the_next_node_under_the_same_id(self):
        unknown = {"ok": False, "error": "x", "code": "outcome_unknown", "outcome": "unknown"}
        for stunt in [CLOSE, SILENCE, b'{"ok":tr', unknown]:
            first, second = self.node(stunt), self.node(WRITTEN)
            patience = SILENCE_SECONDS if stunt is SILENCE else 20
            self.assertTrue(self.client(first, second, patience=patience).set("a", "1"))
            self.assertEqual(first.asked[0]["request_id"], second.asked[0]["request_id"])
            self.assertEqual(second.asked[0]["value"], "1")

    def test_each_write_has_an_id_of_its_own(self):
        node = self.node(otherwise=WRITTEN)
        client = self.client(node)
        for _ in range(3):
            client.set("a", "1")
        self.assertEqual(len({asked["request_id"] for asked in node.asked}), 3)

    def test_what_a_later_try_is_refused_leaves_the_first_one_unknown(self):
        for code in ["unavailable", "bad_context"]:
            first, second = self.node(CLOSE), self.node(otherwise=refusal(code))
            with self.assertRaises(OutcomeUnknownError) as caught:
                self.client(first, second, rounds=1).set("a", "1")
            self.assertEqual(caught.exception.applied, "unknown")
            self.assertEqual(caught.exception.request_id, first.asked[0]["request_id"])

    def test_a_reply_that_is_none_leaves_a_write_unknown(self):
        first, second = self.node(b"what?\n"), self.node(otherwise=WRITTEN)
        with self.assertRaises(ProtocolError) as caught:
            self.client(first, second).set("a", "1")
        self.assertEqual(caught.exception.applied, "unknown")
        self.assertEqual(len(second.asked), 0)

    def test_a_write_without_an_id_is_sent_once_and_its_outcome_is_unknown(self):
        for stunt in [CLOSE, SILENCE, b'{"ok":tr']:
            first, second = self.node(stunt), self.node(otherwise=WRITTEN)
            timeout = SILENCE_SECONDS if stunt is SILENCE else 20
            client = self.client(first, second, timeout=timeout, retry_writes=False)
            with self.assertRaises(OutcomeUnknownError) as caught:
                client.set("a", "1")
            self.assertEqual(caught.exception.applied, "unknown")
            self.assertEqual(caught.exception.address, first.address)
            self.assertEqual((len(first.asked), len(second.asked)), (1, 0))
            self.assertNotIn("request_id", first.asked[0])

    def test_deletes_and_batches_are_repeated_too(self):
        deleted = {**WRITTEN, "deleted": True}
        for ask in [lambda client: client.delete("a"), lambda client: client.bulk_set({"a": "1"})]:
            first, second = self.node(CLOSE), self.node(deleted)
            self.assertTrue(ask(self.client(first, second)))
            self.assertEqual(first.asked[0]["request_id"], second.asked[0]["request_id"])

    def test_a_write_that_was_certainly_not_sent_goes_to_the_next_node(self):
        second = self.node(WRITTEN)
        self.assertTrue(self.client(nobody(), second).set("a", "1"))
        self.assertEqual(len(second.asked), 1)

    def test_a_write_that_was_sent_in_part_goes_to_the_next_node(self):
        first, second = self.node(CLOSE_UNREAD), self.node(WRITTEN)
        value = "v" * 5_000_000
        self.assertTrue(self.client(first, second).set("a", value))
        self.assertEqual(len(first.asked), 0)
        self.assertEqual(second.asked[0]["value"], value)

    def test_a_node_that_died_between_two_requests_is_not_entrusted_with_a_write(self):
        first, second = self.node(VALUE), self.node(WRITTEN)
        client = self.client(first, second)
        client.get("a")
        first.die()
        self.assertTrue(client.set("a", "1"))
        self.assertEqual(len(second.asked), 1)

    def test_a_connection_that_a_node_closed_is_opened_again(self):
        node = self.node(ANSWER_AND_CLOSE, WRITTEN)
        client = self.client(node)
        client.bulk_set({"a": "1"})
        _until(lambda: not node.connections)
        self.assertTrue(client.set("a", "2"))
        self.assertEqual((len(node.asked), node.greeted), (2, 2))

    def test_nothing_is_entrusted_to_a_system_whose_node_does_not_serve(self):
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            second = self.node(WRITTEN)
            client = self.client(f"127.0.0.1:{deaf.getsockname()[1]}", second, patience=1)
            self.assertTrue(client.set("a", "1"))

    def test_a_node_that_turns_clients_away_is_passed_over(self):
        first, second = self.node(), self.node(WRITTEN)
        first.greeting = b"-ERR max number of clients reached\r\n"
        self.assertTrue(self.client(first, second).set("a", "1"))
        with self.assertRaisesRegex(UnreachableError, "max number of clients"):
            self.client(first)

    def test_the_reply_to_a_write_without_an_id_is_waited_for_beyond_the_patience(self):
        def slow(request):
            time.sleep(0.3)
            return WRITTEN

        node = self.node(slow)
        client = self.client(node, retry_writes=False)
        client._patience = Patience(timeout=20, per_node=0.2)
        self.assertTrue(client.set("a", "1"))


class Refusals(Base):
    def test_what_was_refused_for_a_while_is_sent_to_the_next_node(self):
        for code in ["unavailable", "no_cluster", "overloaded", "timed_out", "shutting_down"]:
            first, second = self.node(refusal(code)), self.node(WRITTEN)
            self.assertTrue(self.client(first, second).set("a", "1"))
            self.assertEqual((len(first.asked), len(second.asked)), (1, 1))

    def test_what_was_refused_for_good_is_sent_once(self):
        for code in ["bad_context", "disk_full", "value_too_large", "a_new_code"]:
            first, second = self.node(refusal(code)), self.node(otherwise=WRITTEN)
            with self.assertRaises(RefusedError) as caught:
                self.client(first, second).set("a", "1")
            self.assertEqual(caught.exception.code, code)
            self.assertEqual(len(second.asked), 0)

    def test_the_rounds_are_bounded_and_the_last_refusal_is_told(self):
        node = self.node(otherwise=refusal("unavailable"))
        with self.assertRaises(RefusedError) as caught:
            self.client(node, nobody(), rounds=3).set("a", "1")
        self.assertEqual(caught.exception.code, "unavailable")
        self.assertEqual(len(node.asked), 3)

    def test_one_round_is_no_second_try(self):
        node = self.node(otherwise=refusal("unavailable"))
        with self.assertRaises(RefusedError):
            self.client(node, rounds=1).set("a", "1")
        self.assertEqual(len(node.asked), 1)

    def test_a_node_is_left_alone_as_long_as_it_asks(self):
        node = self.node(refusal("overloaded", retry_after_ms=300), WRITTEN)
        begin = time.monotonic()
        self.client(node).set("a", "1")
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)

    def test_a_call_is_over_in_time_however_long_a_node_asks_to_wait(self):
        node = self.node(otherwise=refusal("overloaded", retry_after_ms=60_000))
        begin = time.monotonic()
        with self.assertRaises(RefusedError) as caught:
            self.client(node).set("a", "1")
        self.assertEqual(caught.exception.retry_after_ms, 60_000)
        self.assertLess(time.monotonic() - begin, 30)


class Unreachable(Base):
    def test_the_reason_for_each_address_is_told(self):
        gone, silent = nobody(), self.node(otherwise=SILENCE)
        client = self.client(gone, silent, patience=SILENCE_SECONDS, rounds=2)
        with self.assertRaises(UnreachableError) as caught:
            client.get("a")
        for part in [gone, silent.address, "refused", "timed out", "Nothing was applied."]:
            self.assertIn(part, str(caught.exception))
        self.assertEqual(len(silent.asked), 2)

    def test_a_client_of_nobody_is_an_error_when_it_is_made(self):
        with self.assertRaises(ConnectionError):
            self.client(nobody(), nobody())

    def test_silence_ends_with_the_time_of_the_call(self):
        node = self.node(otherwise=SILENCE)
        client = self.client(node, rounds=100).using(timeout=0.3)
        begin = time.monotonic()
        with self.assertRaises(UnreachableError):
            client.get("a")
        self.assertLess(time.monotonic() - begin, 5)


class InStep(Base):
    def test_an_interrupt_leaves_no_reply_for_the_next_request(self):
        node = self.node({"ok": True, "value": "old"}, {"ok": True, "value": "new"})
        client = self.client(node)
        with mock.patch.object(Connection, "_receive", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                client.get("a")
        self.assertEqual(client.get("a"), "new")

    def test_what_comes_unasked_is_not_taken_for_a_reply(self):
        node = self.node(b'{"ok":true,"value":"1"}\n{"ok":true,"value":"stray"}\n', VALUE)
        client = self.client(node)
        self.assertEqual(client.get("a"), "1")
        self.assertEqual(client.get("b"), "1")
        self.assertEqual(node.greeted, 2)

    def test_a_reply_may_come_in_many_parts(self):
        value = "v" * 3_000_000
        node = self.node({"ok": True, "value": value}, VALUE)
        client = self.client(node)
        self.assertEqual(client.get("a"), value)
        self.assertEqual(client.get("a"), "1")
        self.assertEqual(node.greeted, 1)


def _until(claim):
    end = time.monotonic() + 5
    while not claim():
        if time.monotonic() > end:
            raise AssertionError("it did not happen within 5 s")
        time.sleep(0.005)


class Tokens(Base):
    def test_a_token_is_shown_first_on_every_connection(self):
        node = self.node({"ok": True, "role": "write"}, CLOSE, {"ok": True, "role": "write"}, VALUE)
        self.assertEqual(self.client(node, token="T").get("a"), "1")
        shown = [asked for asked in node.asked if asked["cmd"] == "AUTH"]
        self.assertEqual(shown, [{"cmd": "AUTH", "token": "T"}] * 2)
        self.assertEqual(node.greeted, 0)

    def test_the_token_of_the_environment_is_shown_where_none_is_given(self):
        node = self.node({"ok": True, "role": "read"})
        with mock.patch.dict("os.environ", {"PEERAGE_TOKEN": "E"}):
            self.client(node)
        self.assertEqual(node.asked, [{"cmd": "AUTH", "token": "E"}])

    def test_a_wrong_token_is_told_and_a_node_without_tokens_takes_everybody(self):
        node = self.node(refusal("wrong_token"))
        with self.assertRaisesRegex(UnreachableError, "not let in"):
            self.client(node, token="T")
        open_node = self.node(refusal("no_tokens"), VALUE)
        self.assertEqual(self.client(open_node, token="T").get("a"), "1")


if __name__ == "__main__":
    unittest.main()
