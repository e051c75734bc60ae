"""Lines out and lines in, without a socket."""

import json
import time
import pickle
import re
import unittest
import uuid
from pathlib import Path

from peerage import OutcomeUnknownError, ProtocolError, RefusedError, UnreachableError
from peerage.connection import Address
from peerage.errors import CODES
from peerage.wire import Reply, Request, new_request_id, to_bytes, to_text

PROTOCOLS = Path(__file__).resolve().parents[3] / "docs" / "protocols.md"
GET = Request("GET", {"key": b"k"})
SET = Request("SET", {"key": b"k", "value": b"v"})


class Data(unittest.TestCase):
    def test_every_byte_string_survives_being_text(self):
        for data in [b"", b"\x00", b"\xff\xfe", "caf\u00e9".encode(), bytes(range(256))]:
            self.assertEqual(to_bytes(to_text(data)), data)

    def test_text_is_utf_8_and_bytes_are_themselves(self):
        self.assertEqual(to_bytes("\u00e9\U0001f600"), b"\xc3\xa9\xf0\x9f\x98\x80")
        self.assertEqual(to_bytes(b"\xff"), b"\xff")
        self.assertEqual(to_bytes(bytearray(b"\xff")), b"\xff")
        self.assertEqual(to_bytes(memoryview(b"\xff")), b"\xff")

    def test_what_is_neither_text_nor_bytes_is_its_json_text(self):
        self.assertEqual(to_bytes(5), b"5")
        self.assertEqual(to_bytes({"n": [1.5, True, None]}), b'{"n":[1.5,true,null]}')

    def test_what_cannot_be_stored_is_an_error_before_anything_is_sent(self):
        with self.assertRaises(TypeError):
            to_bytes(None)
        with self.assertRaises(ValueError):
            to_bytes(float("nan"))
        with self.assertRaises(ValueError):
            to_bytes("\ud800")


class Lines(unittest.TestCase):
    def test_text_is_sent_as_it_is(self):
        line = Request("SET", {"key": "\u00e9".encode(), "value": b"v"}).line(500)
        self.assertTrue(line.endswith(b"}\n"))
        self.assertEqual(
            json.loads(line), {"cmd": "SET", "key": "\u00e9", "value": "v", "timeout_ms": 500}
        )

    def test_one_part_that_is_not_utf_8_makes_all_of_them_base64(self):
        items = [{"key": b"a", "value": b"\xff"}]
        fields = json.loads(Request("BULK_SET", {"items": items}).line(500))
        self.assertEqual(fields["encoding"], "base64")
        self.assertEqual(fields["items"], [{"key": "YQ==", "value": "/w=="}])

    def test_ids_are_uuids_of_this_time_and_all_different(self):
        ids = [uuid.UUID(new_request_id()) for _ in range(100)]
        self.assertEqual(len(set(ids)), 100)
        for name in ids:
            self.assertEqual((name.version, name.variant), (7, uuid.RFC_4122))
            self.assertLess(abs((name.int >> 80) / 1000 - time.time()), 60)

    def test_a_line_has_one_end_whatever_the_value_holds(self):
        line = Request("SET", {"key": b"k", "value": b"a\nb\r\n"}).line(500)
        self.assertEqual(line.count(b"\n"), 1)

    def test_reads_may_be_repeated_and_writes_that_have_an_id(self):
        for command in ["SET", "DELETE", "BULK_SET", "A COMMAND OF LATER"]:
            self.assertFalse(Request(command, {}).may_repeat)
            self.assertTrue(Request(command, {"request_id": "1" * 32}).may_repeat)
        for command in ["GET", "MGET", "SCAN", "COUNT", "CONFLICTS", "PING"]:
            self.assertTrue(Request(command, {}).may_repeat)


class Replies(unittest.TestCase):
    def test_fields_are_checked_as_they_are_taken(self):
        reply = Reply(b'{"ok":true,"value":"v","count":3}', GET, "a:1")
        self.assertEqual(reply.data(reply.fields["value"], "value"), b"v")
        self.assertEqual(reply.take("count", int), 3)
        for name, kind in [("count", str), ("nothing", int)]:
            with self.assertRaises(ProtocolError):
                reply.take(name, kind)

    def test_base64_is_taken_where_the_reply_says_so(self):
        reply = Reply(b'{"ok":true,"encoding":"base64","value":"/w=="}', GET, "a:1")
        self.assertEqual(reply.data(reply.fields["value"], "value"), b"\xff")
        with self.assertRaises(ProtocolError):
            reply.data("no base64!", "value")

    def test_what_is_no_reply_is_said_to_be_none(self):
        for line in [b"", b"-ERR no", b"[]", b"{}", b'{"ok":1}', b"\xff\xff", b'{"ok":true']:
            with self.assertRaises(ProtocolError) as caught:
                Reply(line, SET, "a:1")
            self.assertEqual(caught.exception.applied, "unknown")
            with self.assertRaises(ProtocolError) as caught:
                Reply(line, GET, "a:1")
            self.assertEqual(caught.exception.applied, "no")

    def test_an_error_is_a_refusal_only_if_the_reply_says_so(self):
        refused = b'{"ok":false,"error":"full","code":"disk_full","outcome":"refused"}'
        error = Reply(refused, SET, "a:1").error()
        self.assertIsInstance(error, RefusedError)
        self.assertEqual((error.code, error.applied, error.address), ("disk_full", "no", "a:1"))
        unknown = b'{"ok":false,"error":"lost","code":"outcome_unknown","outcome":"unknown"}'
        for line in [unknown, b'{"ok":false,"error":"what?"}']:
            error = Reply(line, SET, "a:1").error()
            self.assertIsInstance(error, OutcomeUnknownError)
            self.assertEqual(error.applied, "unknown")
            self.assertFalse(error.may_retry)


class Errors(unittest.TestCase):
    def test_the_text_says_what_happened_whether_it_was_applied_and_what_to_do(self):
        error = RefusedError("SET: too slow", "timed_out", address="a:1")
        self.assertEqual(
            str(error),
            "a:1: SET: too slow [timed_out]. Nothing was applied. Retry, with more time.",
        )
        unknown = OutcomeUnknownError("SET: no reply", "outcome_unknown", "unknown")
        self.assertIn("It may have been applied. Send it again", str(unknown))

    def test_a_code_of_a_later_version_is_passed_on_and_not_retried(self):
        error = RefusedError("SET: new", "a_new_code")
        self.assertFalse(error.may_retry)
        self.assertIn("[a_new_code]", str(error))

    def test_an_unreachable_node_is_a_connection_error_as_for_any_socket(self):
        self.assertIsInstance(UnreachableError("gone", "unreachable"), ConnectionError)

    def test_errors_survive_the_way_to_another_process(self):
        for kind in [RefusedError, UnreachableError, OutcomeUnknownError, ProtocolError]:
            error = kind("why", "overloaded", "no", "a:1", 50)
            again = pickle.loads(pickle.dumps(error))
            self.assertIs(type(again), kind)
            self.assertEqual(str(again), str(error))
            self.assertEqual(again.retry_after_ms, 50)

    @unittest.skipUnless(PROTOCOLS.exists(), "the package stands outside of the repository")
    def test_every_code_of_the_protocol_is_known(self):
        text = PROTOCOLS.read_text(encoding="utf-8").split("## Codes")[1].split("\n## ")[0]
        codes = re.findall(r"^\| `(\w+)` \|", text, re.M)
        self.assertGreaterEqual(len(codes), 20)
        self.assertEqual([code for code in codes if code not in CODES], [])


class Addresses(unittest.TestCase):
    def test_an_address_is_a_host_and_a_port(self):
        self.assertEqual(Address.parse("localhost:6379"), ("localhost", 6379))
        self.assertEqual(Address.parse("[::1]:6379"), ("::1", 6379))
        self.assertEqual(str(Address.parse("[::1]:6379")), "[::1]:6379")

    def test_anything_else_is_refused_with_an_example(self):
        for text in ["", "localhost", "localhost:", ":6379", "localhost:x", "localhost:65536"]:
            with self.assertRaisesRegex(ValueError, "127.0.0.1:6379"):
                Address.parse(text)


if __name__ == "__main__":
    unittest.main()
