# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.resource``, ``routes`` and ``operations``: the KES API on the wire.
"""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import ResponseNeverReceived

from kypello.crypto.masterkey import MasterKey
from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.kes.routes import ROUTES
from kypello.keystore.memory import MemoryKeyStore
from tests.cases import AsyncCase
from tests.kes.front import ADMIN, STRANGER, USER, KESFront
from tests.kes.test_keyring import Scripted


def encoded(data: bytes) -> str:
    """
    Bytes as the API tells them.
    """
    return b64encode(data).decode()


class FrontCase(AsyncCase):
    """
    A front over a scripted key store with one key, ``k``.
    """

    async def start(self) -> KESFront:
        """
        Make it.
        """
        self.store = Scripted()
        front = KESFront(self.store)
        self.assertEqual(await front.call("POST", "/v1/key/create/k"), (200, None))
        front.audits.clear()
        return front


class ServerTests(FrontCase):
    """
    The calls that are about the server.
    """

    async def test_version(self) -> None:
        """
        Anybody may ask for the version.
        """
        front = KESFront()
        status, told = await front.call("GET", "/version", identity=None)
        self.assertEqual((status, told), (200, {"version": "1.2.3", "commit": ""}))

    async def test_status(self) -> None:
        """
        The status has all fields that clients read.
        """
        front = await self.start()
        front.clock.advance(61.5)
        status, told = await front.call("GET", "/v1/status")
        self.assertEqual(status, 200)
        self.assertEqual(
            set(told),
            {
                "version",
                "os",
                "arch",
                "uptime",
                "num_cpu",
                "num_cpu_used",
                "mem_heap_used",
                "mem_stack_used",
                "keystore_latency",
            },
        )
        self.assertEqual((told["uptime"], told["keystore_latency"]), (61, 1))

    async def test_status_without_store(self) -> None:
        """
        A key store that cannot be reached is told with both fields that clients want together.
        """
        front = await self.start()
        self.store.failure = KeyStoreUnreachable("gone")
        status, told = await front.call("GET", "/v1/status")
        self.assertEqual(status, 200)
        self.assertTrue(told["keystore_unreachable"])
        self.assertTrue(told["keystore_unavailable"])
        self.assertNotIn("keystore_latency", told)

    async def test_status_of_failing_store(self) -> None:
        """
        A key store that answers with errors is reachable and unavailable.
        """
        front = await self.start()
        self.store.failure = KeyStoreFailed("sealed")
        _status, told = await front.call("GET", "/v1/status")
        self.assertNotIn("keystore_unreachable", told)
        self.assertTrue(told["keystore_unavailable"])

    async def test_ready(self) -> None:
        """
        A server is ready while its key store works.
        """
        front = await self.start()
        self.assertEqual(await front.call("GET", "/v1/ready"), (200, None))
        self.store.failure = KeyStoreUnreachable("gone")
        self.assertEqual(
            await front.call("GET", "/v1/ready"),
            (504, {"message": "key store is not reachable"}),
        )
        self.store.failure = KeyStoreFailed("sealed")
        self.assertEqual(
            await front.call("GET", "/v1/ready"), (502, {"message": "key store is unavailable"})
        )

    async def test_api(self) -> None:
        """
        The API tells all its calls.
        """
        front = await self.start()
        status, told = await front.call("GET", "/v1/api")
        self.assertEqual(status, 200)
        self.assertEqual(len(told), len(ROUTES))
        self.assertIn(
            {"method": "PUT", "path": "/v1/key/encrypt/", "max_body": 1000000, "timeout": 15}, told
        )

    async def test_describe_self(self) -> None:
        """
        A user learns the name and the rules of its policy, in the shape that clients read.
        """
        front = KESFront()
        status, told = await front.call("GET", "/v1/identity/self/describe", identity=USER)
        self.assertEqual(status, 200)
        self.assertEqual(
            told,
            {
                "identity": USER,
                "created_at": "2023-11-14T22:13:20Z",
                "policy": "app",
                "created_by": ADMIN,
                "allow": {
                    "/v1/key/create/app-*": {},
                    "/v1/key/generate/app-*": {},
                    "/v1/key/list/*": {},
                },
                "deny": {"/v1/key/generate/app-secret": {}},
            },
        )

    async def test_describe_admin_and_stranger(self) -> None:
        """
        The administrator is told so; who has no policy does not exist.
        """
        front = KESFront()
        _status, told = await front.call("GET", "/v1/identity/self/describe")
        self.assertEqual((told["identity"], told["admin"]), (ADMIN, True))
        self.assertEqual(
            await front.call("GET", "/v1/identity/self/describe", identity=STRANGER),
            (404, {"message": "identity does not exist"}),
        )


class KeyTests(FrontCase):
    """
    The calls that are about keys.
    """

    async def test_create(self) -> None:
        """
        A key is made by ``POST`` and by ``PUT``, once.
        """
        front = await self.start()
        for method, name in (("POST", "one"), ("PUT", "two")):
            answer = await front.send(method, f"/v1/key/create/{name}")
            self.assertEqual((answer.status, answer.body), (200, b""))
            self.assertEqual(answer.header("Content-Length"), "0")
        self.assertEqual(
            await front.call("POST", "/v1/key/create/one"),
            (400, {"message": "key already exists"}),
        )

    async def test_names(self) -> None:
        """
        A name that is empty, too long or has other characters is refused, never redirected.
        """
        front = await self.start()
        for path, name in (
            ("/v1/key/create", ""),
            ("/v1/key/create/", ""),
            ("/v1/key/create/" + "x" * 81, "x" * 81),
            ("/v1/key/create/a.b", "a.b"),
            ("/v1/key/create/a%2Fb", "a/b"),
            ("/v1/key/create/../x", "../x"),
            ("/v1/key/create/-a", "-a"),
            ("/v1/key/create/a-", "a-"),
            ("/v1/key/create/_", "_"),
            ("/v1/key/create/%C3%A4", "\u00e4"),
        ):
            self.assertEqual(
                await front.call("POST", path),
                (
                    400,
                    {
                        "message": f"key name '{name}' is empty, too long or contains invalid"
                        " characters"
                    },
                ),
            )
        for name in ("x" * 80, "__", "_a", "A-9"):
            self.assertEqual(await front.call("POST", f"/v1/key/create/{name}"), (200, None))

    async def test_describe(self) -> None:
        """
        A key tells its algorithm, when it was made and by whom.
        """
        front = await self.start()
        key = MasterKey.from_bytes(await self.store.get("k"))
        self.assertEqual(
            await front.call("GET", "/v1/key/describe/k"),
            (
                200,
                {
                    "name": "k",
                    "algorithm": "AES256",
                    "created_at": "2023-11-14T22:13:20Z",
                    "created_by": ADMIN,
                    "fingerprint": key.key_id,
                },
            ),
        )

    async def test_describe_old(self) -> None:
        """
        A key that was stored without a time has the time that clients take for none.
        """
        front = await self.start()
        await self.store.store.create("old", b'{"bytes":"%s"}' % b64encode(bytes(32)))
        _status, told = await front.call("GET", "/v1/key/describe/old")
        self.assertEqual(told["created_at"], "0001-01-01T00:00:00Z")
        self.assertEqual(
            await front.call("POST", "/v1/key/hmac/old", {"message": ""}),
            (409, {"message": "key does not support HMAC"}),
        )

    async def test_import(self) -> None:
        """
        Imported material is what seals.
        """
        front = await self.start()
        key = bytes(range(32))
        for name, cipher in (("aes", "AES256"), ("old", "XCHACHA20-POLY1305")):
            body = {"key": encoded(key), "cipher": cipher}
            self.assertEqual(await front.call("PUT", f"/v1/key/import/{name}", body), (200, None))
            stored = MasterKey.from_bytes(await self.store.store.get(name))
            self.assertEqual(stored.key, key)
        self.assertEqual(stored.algorithm, "ChaCha20")

    async def test_import_of_old_clients(self) -> None:
        """
        The field of clients of 2022 is taken for an AES key.
        """
        front = await self.start()
        body = {"bytes": encoded(bytes(32))}
        self.assertEqual(await front.call("POST", "/v1/key/import/old", body), (200, None))

    async def test_bad_import(self) -> None:
        """
        Other ciphers, other sizes and other bodies are refused.
        """
        front = await self.start()
        key = encoded(bytes(32))
        for body, expected in (
            ({"key": key, "cipher": "DES"}, (406, "algorithm 'DES' is not supported")),
            ({"key": key}, (406, "algorithm '' is not supported")),
            ({"key": "AAAA", "cipher": "AES256"}, (406, "invalid key size for 'AES256'")),
            ({"cipher": "AES256"}, (406, "invalid key size for 'AES256'")),
            ({"key": "?"}, (400, "invalid import key request body")),
            ({"key": 5}, (400, "invalid import key request body")),
        ):
            status, told = await front.call("POST", "/v1/key/import/new", body)
            self.assertEqual((status, told["message"]), expected)

    async def test_import_of_half_a_character(self) -> None:
        """
        A cipher that is no text is told as one that there is not.
        """
        front = await self.start()
        answer = await front.send("POST", "/v1/key/import/k", b'{"cipher":"\\ud800"}')
        self.assertEqual(answer.status, 406)
        self.assertEqual(json.loads(answer.body), {"message": "algorithm '?' is not supported"})

    async def test_delete(self) -> None:
        """
        A deleted key does not exist.
        """
        front = await self.start()
        missing = (404, {"message": "key does not exist"})
        self.assertEqual(await front.call("DELETE", "/v1/key/delete/k"), (200, None))
        self.assertEqual(await front.call("DELETE", "/v1/key/delete/k"), missing)
        self.assertEqual(await front.call("GET", "/v1/key/describe/k"), missing)
        self.assertEqual(await front.call("POST", "/v1/key/generate/k"), missing)

    async def test_generate(self) -> None:
        """
        A data key comes in the clear and sealed, and opens under its context alone.
        """
        front = await self.start()
        context = encoded(b'{"bucket":"b/o"}')
        status, told = await front.call("POST", "/v1/key/generate/k", {"context": context})
        self.assertEqual(status, 200)
        self.assertEqual(len(b64decode(told["plaintext"])), 32)
        sealed = {"ciphertext": told["ciphertext"], "context": context}
        self.assertEqual(
            await front.call("POST", "/v1/key/decrypt/k", sealed),
            (200, {"plaintext": told["plaintext"]}),
        )
        self.assertEqual(
            await front.call("POST", "/v1/key/decrypt/k", {"ciphertext": told["ciphertext"]}),
            (400, {"message": "decryption failed: ciphertext is not authentic"}),
        )

    async def test_generate_without_body(self) -> None:
        """
        A request for a data key needs no body.
        """
        front = await self.start()
        for body in (None, b""):
            self.assertEqual((await front.send("PUT", "/v1/key/generate/k", body)).status, 200)

    async def test_encrypt(self) -> None:
        """
        What is encrypted is decrypted again; nothing is a message too.
        """
        front = await self.start()
        for message in ("", encoded(b"hello")):
            _status, told = await front.call("POST", "/v1/key/encrypt/k", {"plaintext": message})
            self.assertEqual(
                await front.call("PUT", "/v1/key/decrypt/k", told), (200, {"plaintext": message})
            )

    async def test_hmac(self) -> None:
        """
        The HMAC is made with the key's own HMAC key.
        """
        front = await self.start()
        key = MasterKey.from_bytes(await self.store.store.get("k"))
        assert key.hmac_key is not None
        expected = hmac.digest(key.hmac_key, b"hello", hashlib.sha256)
        self.assertEqual(
            await front.call("POST", "/v1/key/hmac/k", {"message": encoded(b"hello")}),
            (200, {"hmac": encoded(expected)}),
        )

    async def test_bodies(self) -> None:
        """
        Names of fields are of any case, unknown ones and what follows the object do not matter.
        """
        front = await self.start()
        for body in (b' {"PlainText":"aGk=","x":[1]} {"plaintext":5}', b"null", b"{}"):
            self.assertEqual((await front.send("POST", "/v1/key/encrypt/k", body)).status, 200)

    async def test_bad_bodies(self) -> None:
        """
        A body that is no object of the right kind is refused.
        """
        front = await self.start()
        for body in (
            None,
            b"[]",
            b'"a"',
            b"{",
            b"\xff",
            b'{"plaintext":"="}',
            b'{"plaintext":1}',
            b"[" * 500_000,
            b" " * 1_000_001,
        ):
            answer = await front.send("POST", "/v1/key/encrypt/k", body)
            self.assertEqual(
                (answer.status, json.loads(answer.body)), (400, {"message": "invalid request body"})
            )

    async def test_chunked_bodies(self) -> None:
        """
        A body without an announced length may be empty where none is needed, and not too long.
        """
        front = await self.start()
        head = (
            b"POST /v1/key/%s/k HTTP/1.1\r\nHost: kes\r\nX-Identity: " + ADMIN.encode() + b"\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        end = b"0\r\n\r\n"
        self.assertIn(b" 200 OK\r\n", front.send_raw(head % b"generate" + end))
        self.assertIn(b" 400 Bad Request\r\n", front.send_raw(head % b"encrypt" + end))
        chunk = b"80000\r\n" + b" " * 0x80000 + b"\r\n"
        answer = front.send_raw(head % b"encrypt" + chunk * 2)
        self.assertIn(b'{"message":"invalid request body"}', answer)

    async def test_largest_body(self) -> None:
        """
        A body may have a million bytes.
        """
        front = await self.start()
        body = b'{"plaintext":"' + b"A" * 999_984 + b'"}'
        self.assertEqual(len(body), 1_000_000)
        self.assertEqual((await front.send("POST", "/v1/key/encrypt/k", body)).status, 200)


class ListTests(AsyncCase):
    """
    The listing of keys.
    """

    async def start(self, names: Sequence[str]) -> KESFront:
        """
        A front over a store with keys of these names.
        """
        store = MemoryKeyStore()
        for name in names:
            await store.create(name, b"not looked at")
        return KESFront(store)

    async def test_all(self) -> None:
        """
        All forms of the empty prefix list all keys; no keys are an empty list.
        """
        front = await self.start(["b", "a"])
        for path in ("/v1/key/list", "/v1/key/list/", "/v1/key/list/*", "/v1/key/list/%2A"):
            self.assertEqual(await front.call("GET", path), (200, {"names": ["a", "b"]}))
        self.assertEqual(
            await (await self.start([])).call("GET", "/v1/key/list/"), (200, {"names": []})
        )

    async def test_prefix(self) -> None:
        """
        A prefix, with or without a star, lists the names that begin so.
        """
        front = await self.start(["my-a", "my-b", "your-a"])
        for path in ("/v1/key/list/my-", "/v1/key/list/my-%2A", "/v1/key/list/my*"):
            self.assertEqual(await front.call("GET", path), (200, {"names": ["my-a", "my-b"]}))

    async def test_bad_pattern(self) -> None:
        """
        What can be the beginning of no name is refused.
        """
        front = await self.start([])
        for pattern in ("-a", "_", "a.b", "**", "x" * 81, "a*b-"):
            self.assertEqual(
                await front.call("GET", f"/v1/key/list/{pattern}"),
                (
                    400,
                    {"message": f"listing pattern '{pattern}' is empty, too long or is invalid"},
                ),
            )

    async def test_more_than_a_thousand(self) -> None:
        """
        Thousands of names come in one answer.
        """
        names = [f"key-{number:05d}" for number in range(3000)]
        front = await self.start(names)
        self.assertEqual(await front.call("GET", "/v1/key/list/"), (200, {"names": names}))

    async def test_pages(self) -> None:
        """
        What clients cannot read at once comes in pages that hold every name once.
        """
        names = [f"k{number:079d}" for number in range(20_001)]
        front = await self.start([*names, "other"])
        found, pattern, sizes = [], "k", []
        while pattern:
            answer = await front.send("GET", f"/v1/key/list/{pattern.replace('*', '%2A')}")
            self.assertLess(len(answer.body), 1 << 20)
            told = json.loads(answer.body)
            found += told["names"]
            sizes.append(len(told["names"]))
            pattern = told.get("continue_at", "")
        self.assertEqual(sizes, [10_000, 10_000, 1])
        self.assertEqual(found, names)


class AccessTests(FrontCase):
    """
    Who may call.
    """

    async def test_policy(self) -> None:
        """
        A user may do what its policy allows, and nothing that it denies.
        """
        front = await self.start()
        refused = (403, {"message": "not authorized: insufficient permissions"})
        create = await front.call("POST", "/v1/key/create/app-secret", identity=USER)
        self.assertEqual(create, (200, None))
        for method, path, identity in (
            ("POST", "/v1/key/generate/app-secret", USER),
            ("POST", "/v1/key/generate/app%2Dsecret", USER),
            ("POST", "/v1%2Fkey/generate/app-secret", USER),
            ("POST", "/v1/key/create/other", USER),
            ("GET", "/v1/status", USER),
            ("GET", "/v1/key/list/", STRANGER),
        ):
            self.assertEqual(await front.call(method, path, identity=identity), refused)

    async def test_list_without_slash(self) -> None:
        """
        The rule ``/v1/key/list/*`` allows the listing of everything, however it is asked for.
        """
        front = await self.start()
        for path in ("/v1/key/list", "/v1/key/list/"):
            self.assertEqual((await front.send("GET", path, identity=USER)).status, 200)

    async def test_refusal_tells_nothing(self) -> None:
        """
        Who may not call learns neither whether a name is valid nor whether it is taken.
        """
        front = await self.start()
        for name in ("", "k", "no-such", "not.valid"):
            self.assertEqual(
                (await front.send("POST", f"/v1/key/generate/{name}", b"x", STRANGER)).status, 403
            )

    async def test_no_identity(self) -> None:
        """
        Without a usable certificate everything but the version is refused.
        """
        front = await self.start()
        for path in ("/v1/status", "/v1/identity/self/describe", "/v1/key/list/"):
            self.assertEqual(
                await front.call("GET", path, identity=None),
                (400, {"message": "tls: client certificate is required"}),
            )

    async def test_refusals_are_logged(self) -> None:
        """
        The operator is told who was refused what, under which policy, and the nearest rule.
        """
        front = await self.start()
        await front.call("POST", "/v1/key/generate/other", identity=USER)
        await front.call("POST", "/v1/key/generate/app-secret", identity=USER)
        await front.call("POST", "/v1/key/generate/k", identity=STRANGER)
        self.assertEqual([log["log_level"].name for log in front.logs], ["warn"] * 3)
        nearest, denied, unknown = front.logs
        self.assertEqual(
            (nearest["identity"], nearest["path"], nearest["policy"], nearest["rule"]),
            (USER, "/v1/key/generate/other", "app", "/v1/key/generate/app-*"),
        )
        self.assertIn("nearest rule", nearest["log_format"])
        self.assertEqual(denied["rule"], "/v1/key/generate/app-secret")
        self.assertIn("denies", denied["log_format"])
        self.assertIn("no policy", unknown["log_format"])


class WireTests(FrontCase):
    """
    What is common to all calls.
    """

    async def test_unknown_paths(self) -> None:
        """
        Other paths are not found, in plain text.
        """
        front = await self.start()
        for path in ("/", "/v1", "/v1/status/", "/v1/key", "/v1/key/../status", "/v2/status"):
            answer = await front.send("GET", path)
            self.assertEqual((answer.status, answer.body), (404, b"404 page not found\n"))

    async def test_methods(self) -> None:
        """
        Another method is refused, whoever asks, with the one that is expected.
        """
        front = await self.start()
        for method, path, expected in (
            ("GET", "/v1/key/create/k", "PUT"),
            ("POST", "/v1/status", "GET"),
            ("POST", "/v1/key/delete/k", "DELETE"),
            ("DELETE", "/v1/key/list/", "GET"),
        ):
            answer = await front.send(method, path, identity=STRANGER)
            self.assertEqual(answer.status, 405)
            self.assertEqual(answer.header("Accept"), expected)
            self.assertEqual(
                json.loads(answer.body),
                {"message": f"received method '{method}' expected '{expected}'"},
            )

    async def test_json(self) -> None:
        """
        Answers are compact JSON that is safe within HTML and ends with a line feed.
        """
        front = await self.start()
        answer = await front.send("GET", "/v1/key/describe/%3Ca%26b%3E")
        self.assertEqual(answer.header("Content-Type"), "application/json")
        self.assertTrue(answer.body.startswith(b'{"message":"key name \'\\u003ca\\u0026b\\u003e'))
        self.assertTrue(answer.body.endswith(b'"}\n'))

    async def test_store_failures(self) -> None:
        """
        A key store that fails is a bad gateway; the log has the details, the client has not.
        """
        front = await self.start()
        self.store.failure = KeyStoreFailed("internal detail")
        for method, path, message in (
            ("POST", "/v1/key/create/x", "failed to create key"),
            ("GET", "/v1/key/describe/k", "failed to read key"),
            ("DELETE", "/v1/key/delete/k", "failed to delete key"),
            ("GET", "/v1/key/list/", "failed to list keys"),
        ):
            self.assertEqual(await front.call(method, path), (502, {"message": message}))
            self.assertEqual(front.logs[-1]["reason"], "internal detail")
        self.store.failure = KeyStoreUnreachable("internal detail")
        self.assertEqual(
            await front.call("GET", "/v1/key/describe/k"),
            (502, {"message": "failed to read key: key store is not reachable"}),
        )

    async def test_deadline(self) -> None:
        """
        A key store that does not answer is given up after fifteen seconds.
        """
        front = await self.start()
        self.store.gate = Deferred()
        waiting = front.send("GET", "/v1/key/describe/k")
        front.clock.advance(14.9)
        self.assertNoResult(waiting)
        front.clock.advance(0.2)
        self.assertEqual((await waiting).status, 502)

    async def test_defect(self) -> None:
        """
        A defect is an internal error, logged once, and tells the client nothing.
        """
        front = await self.start()
        self.store.failure = RuntimeError("secret")
        self.assertEqual(
            await front.call("GET", "/v1/key/describe/k"),
            (500, {"message": "internal server error"}),
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class AuditTests(FrontCase):
    """
    Every request leaves a record.
    """

    async def test_record(self) -> None:
        """
        A record tells who did what to which key, the result, and how long it took.
        """
        front = await self.start()
        self.store.gate = Deferred()
        waiting = front.send("POST", "/v1/key/generate/k")
        front.clock.advance(0.25)
        self.store.gate.callback(None)
        await waiting
        (event,) = front.audits
        self.assertEqual(
            json.loads(event["audit"]),
            {
                "time": "2023-11-14T22:13:20.250000Z",
                "request": {
                    "ip": "198.51.100.7",
                    "method": "POST",
                    "path": "/v1/key/generate/k",
                    "identity": ADMIN,
                    "key": "k",
                },
                "response": {"code": 200, "time": 250_000_000},
            },
        )
        self.assertEqual((event["identity"], event["key"]), (ADMIN, "k"))
        self.assertEqual((event["status"], event["latency"]), (200, 0.25))

    async def test_everything(self) -> None:
        """
        Refused, wrong and unknown requests are recorded like others, bodies never.
        """
        front = await self.start()
        await front.send("GET", "/version", identity=None)
        await front.send("GET", "/v1/status", identity=STRANGER)
        await front.send("DELETE", "/v1/status")
        await front.send("GET", "/nothing")
        await front.send("POST", "/v1/key/encrypt/k", b'{"plaintext":"c2VjcmV0"}')
        self.assertEqual([event["status"] for event in front.audits], [200, 403, 405, 404, 200])
        self.assertNotIn("c2VjcmV0", repr(front.audits))

    async def test_client_gone(self) -> None:
        """
        A client that goes away is recorded without a result.
        """
        front = await self.start()
        self.store.gate = Deferred()
        waiting = front.send("GET", "/v1/key/describe/k")
        waiting.cancel()
        with self.assertRaises((CancelledError, ResponseNeverReceived)):
            await waiting
        self.assertEqual([event["status"] for event in front.audits], [0])
