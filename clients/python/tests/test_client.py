"""Each method: what it asks, and what it makes of the answer."""

import math
import threading
import unittest
from datetime import timedelta

from peerage import (
    NOTHING_SEEN,
    KVBytesClient,
    KVClient,
    OutcomeUnknownError,
    PeerageError,
    ProtocolError,
    RefusedError,
)

from .fake_node import FakeNode, refusal

WRITTEN = {"ok": True, "seq": 7, "context": "T", "acks": {"home": 2, "fallback": 0}}
ABSENT = {"ok": False, "error": "Key not found", "code": "not_found"}


class Base(unittest.TestCase):
    """Plays a node, and looks at what it was asked without the time that it was given."""

    def play(self, *answers, client=KVClient, otherwise={"ok": True}, **options):
        node = FakeNode(*answers, otherwise=otherwise)
        self.addCleanup(node.die)
        talker = client("127.0.0.1", node.port, **options)
        self.addCleanup(talker.close)
        return node, talker

    def asked(self, node):
        for request in node.asked:
            self.assertGreater(request.pop("timeout_ms"), 0)
            is_write = request["cmd"] in {"SET", "DELETE", "BULK_SET"}
            self.assertEqual(request.pop("request_id", None) is not None, is_write)
        return node.asked


class ExistingPrograms(Base):
    def test_the_methods_that_they_know_return_what_they_expect(self):
        node, client = self.play(
            WRITTEN,
            {"ok": True, "value": "Ada"},
            ABSENT,
            {"ok": True, "seq": 8, "count": 2},
            {"ok": True, "deleted": True},
            {"ok": True, "deleted": False},
            {"ok": True, "count": 2},
            {"ok": True, "pong": True},
        )
        self.assertIs(client.set("name", "Ada", debug=True), True)
        self.assertEqual(client.get("name"), "Ada")
        self.assertIsNone(client.get("nobody"))
        self.assertIs(client.bulk_set([("k1", "v1"), ("k2", "v2")]), True)
        self.assertIs(client.delete("name"), True)
        self.assertIs(client.delete("name"), False)
        self.assertEqual(client.count(), 2)
        self.assertIs(client.ping(), True)
        pairs = [{"key": "k1", "value": "v1"}, {"key": "k2", "value": "v2"}]
        self.assertEqual(
            self.asked(node),
            [
                {"cmd": "SET", "key": "name", "value": "Ada", "debug": True},
                {"cmd": "GET", "key": "name"},
                {"cmd": "GET", "key": "nobody"},
                {"cmd": "BULK_SET", "items": pairs, "debug": False},
                {"cmd": "DELETE", "key": "name"},
                {"cmd": "DELETE", "key": "name"},
                {"cmd": "COUNT"},
                {"cmd": "PING"},
            ],
        )

    def test_a_batch_may_be_pairs_dicts_or_one_dict(self):
        node, client = self.play()
        client.bulk_set([("a", "1")], True)
        client.bulk_set([{"key": "a", "value": "1"}], debug=True)
        client.bulk_set({"a": "1"}, debug=True)
        client.bulk_set(iter([["a", "1"]]), debug=True)
        items = [{"key": "a", "value": "1"}]
        self.assertEqual(
            self.asked(node), 4 * [{"cmd": "BULK_SET", "items": items, "debug": True}]
        )

    def test_ping_is_false_where_nobody_answers(self):
        node, client = self.play(rounds=1)
        node.die()
        self.assertIs(client.ping(), False)

    def test_a_closed_client_opens_a_new_connection_when_it_is_used(self):
        node, client = self.play(WRITTEN, WRITTEN)
        with client:
            client.set("a", "1")
        client.set("a", "2")
        client.reconnect()
        self.assertEqual(node.greeted, 3)

    def test_a_refusal_is_an_error_and_not_an_absent_key(self):
        _, client = self.play(refusal("damaged"))
        with self.assertRaises(RefusedError) as caught:
            client.get("a")
        self.assertEqual((caught.exception.code, caught.exception.applied), ("damaged", "no"))



class ValuesThatEnd(Base):
    def test_seconds_go_out_with_three_decimals_at_most(self):
        node, client = self.play(otherwise=WRITTEN)
        client.set("k", "v", ttl=5)
        client.set("k", "v", ttl=0.1 + 0.2)
        client.put("k", "v", ttl=timedelta(minutes=1, milliseconds=1))
        client.bulk_set({"k": "v"}, ttl=2.0)
        self.assertIs(client.expire("k", 7), True)
        ttls = [request["ttl"] for request in self.asked(node)]
        self.assertEqual(ttls, [5, 0.3, 60.001, 2, 7])
        for wrong in (0, -1, 0.0001):
            with self.assertRaises(ValueError):
                client.set("k", "v", ttl=wrong)
        self.assertEqual(len(node.asked), 5)

    def test_what_is_left_is_told_in_seconds(self):
        node, client = self.play(
            {"ok": True, "ttl_ms": 1500, "expires_ms": 9},
            {"ok": True, "ttl_ms": None},
            ABSENT,
            {"ok": True, "changed": False},
            ABSENT,
            ABSENT,
        )
        self.assertEqual(client.ttl("k"), 1.5)
        self.assertEqual(client.ttl("k"), math.inf)
        self.assertIsNone(client.ttl("k"))
        self.assertIs(client.persist("k"), False)
        self.assertIs(client.persist("k"), False)
        self.assertIs(client.expire("k", 1), False)
        asked = [request["cmd"] for request in self.asked(node)]
        self.assertEqual(asked, ["TTL", "TTL", "TTL", "PERSIST", "PERSIST", "EXPIRE"])


class ConcurrentWriters(Base):
    def test_siblings_come_with_a_context_that_a_write_takes(self):
        answer = {"ok": True, "values": ["x", "y"], "context": "S", "vclock": {"n.1": 4}}
        node, client = self.play(answer, WRITTEN, {"ok": True, "deleted": True})
        seen = client.siblings("cart")
        self.assertEqual((seen.values, seen.value, seen.in_conflict), (("x", "y"), "x", True))
        self.assertEqual(seen.vclock, {"n.1": 4})
        client.set("cart", "xy", context=seen.context)
        client.delete("cart", context=NOTHING_SEEN)
        self.assertEqual(
            self.asked(node),
            [
                {"cmd": "GET", "key": "cart", "siblings": True},
                {"cmd": "SET", "key": "cart", "value": "xy", "context": "S", "debug": False},
                {"cmd": "DELETE", "key": "cart", "context": ""},
            ],
        )

    def test_an_absent_key_has_no_values_and_yet_a_context(self):
        _, client = self.play({"ok": True, "values": [], "context": "S", "vclock": {}})
        seen = client.siblings("cart")
        self.assertEqual((seen.values, seen.value, seen.in_conflict), ((), None, False))
        self.assertEqual(seen.context, "S")

    def test_put_tells_what_is_known_of_the_write(self):
        _, client = self.play({**WRITTEN, "siblings": 2, "debug": "ignored"}, WRITTEN)
        written = client.put("a", "1", debug=True)
        self.assertEqual((written.context, written.siblings, written.acks), ("T", 2, 2))
        self.assertTrue(written.debug_ignored)
        written = client.put("a", "1")
        self.assertEqual((written.seq, written.siblings, written.debug_ignored), (7, 1, False))

    def test_update_replaces_exactly_what_it_read(self):
        answer = {"ok": True, "values": ["b", "a"], "context": "S", "vclock": {}}
        node, client = self.play(answer, WRITTEN)
        client.update("cart", lambda values: "+".join(sorted(values)))
        self.assertEqual(node.asked[1]["value"], "a+b")
        self.assertEqual(node.asked[1]["context"], "S")

    def test_conflicts_are_walked_page_by_page(self):
        def entry(key):
            versions = [{"value": "x", "dot": "n:1", "written_ms": 5}]
            return {"key": key, "siblings": versions}

        node, client = self.play(
            {"ok": True, "conflicts": [entry("a")], "cursor": "17"},
            {"ok": True, "conflicts": [entry("b")], "cursor": "0"},
        )
        found = list(client.conflicts())
        self.assertEqual([conflict.key for conflict in found], ["a", "b"])
        version = found[0].versions[0]
        self.assertEqual((version.value, version.dot, version.written_ms), ("x", "n:1", 5))
        self.assertEqual([request["cursor"] for request in node.asked], ["0", "17"])


class ManyKeys(Base):
    def test_keys_are_walked_until_the_cursor_is_back_at_0(self):
        node, client = self.play(
            {"ok": True, "keys": ["a", "b"], "cursor": "17"},
            {"ok": True, "keys": [], "cursor": "18446744073709551615"},
            {"ok": True, "keys": ["c"], "cursor": "0"},
        )
        self.assertEqual(client.keys(prefix="p", pattern="*"), ["a", "b", "c"])
        common = {"cmd": "SCAN", "limit": 1000, "prefix": "p", "pattern": "*"}
        cursors = ["0", "17", "18446744073709551615"]
        self.assertEqual(self.asked(node), [{**common, "cursor": cursor} for cursor in cursors])

    def test_a_scan_asks_for_a_page_only_when_it_is_needed(self):
        node, client = self.play({"ok": True, "keys": ["a", "b"], "cursor": "17"})
        self.assertEqual(next(client.scan(page_size=2)), "a")
        self.assertEqual(len(node.asked), 1)

    def test_a_cursor_that_stands_still_ends_the_walk_with_an_error(self):
        page = {"ok": True, "keys": [], "cursor": "17"}
        _, client = self.play(page, page)
        with self.assertRaises(ProtocolError):
            client.keys()

    def test_items_are_keys_with_their_values(self):
        item = {"key": "a", "value": "1"}
        node, client = self.play({"ok": True, "items": [item], "cursor": "0"})
        self.assertEqual(list(client.scan_items()), [("a", "1")])
        self.assertIs(node.asked[0]["values"], True)

    def test_mget_asks_for_many_keys_in_several_requests(self):
        def answer(request):
            values = [None if key == "1500" else "v" + key for key in request["keys"]]
            return {"ok": True, "values": values}

        node, client = self.play(answer, answer, answer)
        values = client.mget(str(number) for number in range(2001))
        expected = ["v" + str(number) for number in range(2001)]
        expected[1500] = None
        self.assertEqual(values, expected)
        self.assertEqual([len(request["keys"]) for request in node.asked], [1000, 1000, 1])
        self.assertEqual(client.mget([]), [])

    def test_mget_takes_no_answer_of_another_length(self):
        _, client = self.play({"ok": True, "values": ["1"]})
        with self.assertRaises(ProtocolError):
            client.mget(["a", "b"])


class Bytes(Base):
    def test_a_bytes_client_takes_and_gives_bytes(self):
        answers = [WRITTEN, {"ok": True, "value": "AP8=", "encoding": "base64"}, WRITTEN]
        node, client = self.play(*answers, {"ok": True, "value": "caf\u00e9"}, client=KVBytesClient)
        client.set(b"\xff", b"\x00\xff")
        self.assertEqual(client.get(b"\xff"), b"\x00\xff")
        client.set("text", "caf\u00e9")
        self.assertEqual(client.get("text"), b"caf\xc3\xa9")
        self.assertEqual(node.asked[0]["key"], "/w==")
        self.assertEqual(node.asked[0]["encoding"], "base64")
        self.assertNotIn("encoding", node.asked[2])

    def test_what_a_text_client_was_given_can_be_sent_back(self):
        page = {"ok": True, "keys": ["/w=="], "cursor": "0", "encoding": "base64"}
        node, client = self.play(page, {"ok": True, "value": "v"})
        (key,) = client.keys()
        self.assertEqual(client.get(key), "v")
        self.assertEqual(node.asked[1]["key"], "/w==")


class Options(Base):
    def test_a_level_goes_with_every_request(self):
        node, client = self.play({"ok": True, "value": "1"}, level="quorum")
        client.get("a")
        self.assertEqual(node.asked[0]["level"], "quorum")

    def test_using_changes_one_request_and_not_the_client(self):
        value = {"ok": True, "value": "1"}
        node, client = self.play(value, WRITTEN, value, level="quorum")
        other = client.using(level="one", r=1, w=3, timeout=1.5)
        other.get("a")
        other.set("a", "1")
        client.get("a")
        read, write, plain = node.asked
        self.assertEqual((read["level"], read["r"], "w" in read), ("one", 1, False))
        self.assertEqual((write["level"], write["w"], "r" in write), ("one", 3, False))
        self.assertLess(read["timeout_ms"], 1500)
        self.assertEqual((plain["level"], "r" in plain), ("quorum", False))
        self.assertGreater(plain["timeout_ms"], 1500)
        self.assertEqual(node.greeted, 1)

    def test_a_client_that_cannot_be_is_refused_at_once(self):
        for options in [
            {"host": "a", "addresses": ["b:1"]},
            {"addresses": []},
            {"addresses": "a:1"},
            {"addresses": [("a", 65_536)]},
            {"timeout": 0},
            {"patience": -1},
            {"rounds": 0},
        ]:
            with self.assertRaises(ValueError):
                KVClient(**options)

    def test_the_raw_views_are_the_fields_of_the_reply(self):
        shown = [{"slot": 1}, {"phase": "member"}, {"term": 1}]
        _, client = self.play(*({"ok": True, **fields} for fields in shown))
        self.assertEqual(client.explain("a")["slot"], 1)
        self.assertEqual(client.status()["phase"], "member")
        self.assertEqual(client.info()["term"], 1)


class Threads(Base):
    def test_threads_that_share_a_client_get_each_their_own_answers(self):
        def echo(request):
            return {"ok": True, "value": 20_000 * request["key"]}

        _, client = self.play(*(80 * [echo]))
        wrong = []

        def ask(thread):
            for number in range(10):
                key = f"{thread}-{number}"
                try:
                    if client.get(key) != 20_000 * key:
                        wrong.append(key)
                except PeerageError as error:
                    wrong.append(str(error)[:200])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


class Doubt(Base):
    def test_a_write_of_unknown_outcome_is_tried_again_and_says_so_in_the_end(self):
        unknown = {"ok": False, "error": "lost", "code": "outcome_unknown", "outcome": "unknown"}
        for answer in [unknown, {**unknown, "code": "unavailable"}]:
            node, client = self.play(answer, answer, rounds=2)
            with self.assertRaises(OutcomeUnknownError) as caught:
                client.set("a", "1")
            self.assertEqual(caught.exception.applied, "unknown")
            ids = {request["request_id"] for request in node.asked}
            self.assertEqual((len(node.asked), ids), (2, {caught.exception.request_id}))

    def test_an_acknowledgement_that_lacks_a_part_is_no_refusal(self):
        _, client = self.play({"ok": True})
        with self.assertRaises(ProtocolError) as caught:
            client.put("a", "1")
        self.assertEqual(caught.exception.applied, "unknown")


if __name__ == "__main__":
    unittest.main()
