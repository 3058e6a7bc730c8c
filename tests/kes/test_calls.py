# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for the calls of the KES API about policies, identities, logs and numbers, for its older wire
forms, and for what guards keys beyond the original.
"""

import json
from base64 import b64encode

from twisted.internet.defer import Deferred

from kypello.errors import BodyTruncated
from kypello.kes.limits import Limits
from kypello.kes.operations import DETAILED_PAGE
from kypello.kes.policy import Access, Policy
from kypello.kes.routes import Setting
from kypello.kes.streams import WAITING
from kypello.testing.harness import RawClient
from tests.cases import AsyncCase
from tests.kes.front import ADMIN, STRANGER, USER, KESFront
from tests.kes.test_keyring import Scripted

_MADE = {"created_at": "2023-11-14T22:13:20Z", "created_by": ADMIN}


class PolicyTests(AsyncCase):
    """
    Policies and identities are told in the shapes that clients read.
    """

    async def test_policies(self) -> None:
        """
        A policy is listed, described and read.
        """
        front = KESFront()
        self.assertEqual(
            await front.call("GET", "/v1/policy/list/a*"),
            (200, {"names": ["app"], "continue_at": ""}),
        )
        self.assertEqual(
            await front.call("GET", "/v1/policy/list/b"), (200, {"names": [], "continue_at": ""})
        )
        self.assertEqual(
            await front.call("GET", "/v1/policy/describe/app"), (200, {"name": "app", **_MADE})
        )
        _status, told = await front.call("GET", "/v1/policy/read/app")
        self.assertEqual(told["deny"], {"/v1/key/generate/app-secret": {}})
        self.assertEqual(set(told), {"name", "allow", "deny", *_MADE})

    async def test_identities(self) -> None:
        """
        Identities are listed, the administrator's too, and described.
        """
        front = KESFront()
        self.assertEqual(
            await front.call("GET", "/v1/identity/list"),
            (200, {"identities": [ADMIN, USER], "continue_at": ""}),
        )
        self.assertEqual(
            await front.call("GET", f"/v1/identity/describe/{USER}"),
            (200, {"policy": "app", **_MADE}),
        )
        self.assertEqual(
            await front.call("GET", f"/v1/identity/describe/{ADMIN}"),
            (200, {"admin": True, "created_at": _MADE["created_at"]}),
        )

    async def test_unknown(self) -> None:
        """
        What there is not is said in the words of the protocol, and so is a name that is none.
        """
        front = KESFront()
        for path, status, message in (
            ("policy/read/b", 404, "policy does not exist"),
            ("policy/describe/b", 404, "policy does not exist"),
            (f"identity/describe/{STRANGER}", 404, "identity does not exist"),
            (
                "policy/read/a.b",
                400,
                "policy name 'a.b' is empty, too long or contains invalid characters",
            ),
            (
                "identity/describe/",
                400,
                "identity '' is empty, too long or contains invalid characters",
            ),
            ("policy/list/a.b", 400, "listing pattern 'a.b' is empty, too long or is invalid"),
        ):
            self.assertEqual(await front.call("GET", f"/v1/{path}"), (status, {"message": message}))

    async def test_without_policy(self) -> None:
        """
        Who has no rule for these calls learns nothing.
        """
        front = KESFront()
        for path in ("policy/read/app", f"identity/describe/{USER}", "metrics", "log/audit"):
            status, _told = await front.call("GET", f"/v1/{path}", identity=USER)
            self.assertEqual(status, 403)


class OlderFormTests(AsyncCase):
    """
    Forms of the wire from before October 2023.
    """

    async def test_lines(self) -> None:
        """
        A client that asks for lines gets all names, one per line, and nothing for no names.
        """
        front = KESFront()
        for name in ("one", "two"):
            await front.call("POST", f"/v1/key/create/{name}")
        for path, lines in (
            ("key/list/*", [{"name": "one"}, {"name": "two"}]),
            ("key/list/x*", []),
            ("policy/list/*", [{"name": "app"}]),
            ("identity/list/b*", [{"identity": USER}]),
        ):
            answer = await front.send(
                "GET", f"/v1/{path}", more=(("Accept", "application/x-ndjson"),)
            )
            self.assertEqual(answer.header("Content-Type"), "application/x-ndjson")
            self.assertEqual([json.loads(line) for line in answer.body.splitlines()], lines)

    async def test_bulk_decrypt(self) -> None:
        """
        Several messages are opened at once, or none when one of them is bad.
        """
        front = KESFront()
        await front.call("POST", "/v1/key/create/k")
        sent = []
        for text in (b"one", b"two"):
            message = {
                "plaintext": b64encode(text).decode(),
                "context": b64encode(b"c" + text).decode(),
            }
            _status, sealed = await front.call("POST", "/v1/key/encrypt/k", message)
            sent.append({"ciphertext": sealed["ciphertext"], "context": message["context"]})
        path = "/v1/key/bulk/decrypt/k"
        self.assertEqual(
            await front.call("POST", path, sent),
            (200, [{"plaintext": b64encode(text).decode()} for text in (b"one", b"two")]),
        )
        self.assertEqual(await front.call("POST", path, []), (200, []))
        sent[1]["context"] = sent[0]["context"]
        status, told = await front.call("POST", path, sent)
        self.assertEqual(
            (status, told["message"]), (400, "decryption failed: ciphertext is not authentic")
        )

    async def test_bulk_denied(self) -> None:
        """
        Who is denied to decrypt with a key cannot do it in bulk, which policies do not name.
        """
        policy = Policy("app", ("/v1/key/*",), ("/v1/key/decrypt/secret*",))
        front = KESFront(access=Access(ADMIN, {USER: policy}))
        for name, status in (("secret", 403), ("other", 200)):
            await front.call("POST", f"/v1/key/create/{name}")
            found, _told = await front.call("POST", f"/v1/key/bulk/decrypt/{name}", [], USER)
            self.assertEqual(found, status)
        (refusal,) = front.logs
        self.assertEqual(refusal["rule"], "/v1/key/decrypt/secret*")

    async def test_bulk_limits(self) -> None:
        """
        More than a thousand messages, or something else than an array, are refused.
        """
        front = KESFront()
        await front.call("POST", "/v1/key/create/k")
        refusal = (400, {"message": "invalid request body"})
        for body in ([{}] * 1001, {}, None, ["a"], [[]]):
            self.assertEqual(await front.call("POST", "/v1/key/bulk/decrypt/k", body), refusal)


class FingerprintTests(AsyncCase):
    """
    Keys are told apart by fingerprints.
    """

    async def test_same_name_other_key(self) -> None:
        """
        A key that was deleted and made again has another fingerprint.
        """
        front = KESFront()
        found = set()
        for _ in range(2):
            await front.call("POST", "/v1/key/create/k")
            _status, told = await front.call("GET", "/v1/key/describe/k")
            self.assertRegex(told["fingerprint"], r"\A[0-9a-f]{32}\Z")
            found.add(told["fingerprint"])
            await front.call("DELETE", "/v1/key/delete/k")
        self.assertEqual(len(found), 2)

    async def test_list(self) -> None:
        """
        A listing with details tells what describing each key tells, also beside one that is none.
        """
        front = KESFront()
        await front.call("POST", "/v1/key/create/good")
        await front.store.create("bad", b"no key")
        _status, described = await front.call("GET", "/v1/key/describe/good")
        status, told = await front.call("GET", "/v1/key/list/*?details")
        self.assertEqual((status, told["names"]), (200, ["bad", "good"]))
        self.assertEqual(told["keys"], [{"name": "bad", "error": "failed to read key"}, described])
        _status, plain = await front.call("GET", "/v1/key/list/*")
        self.assertEqual(plain, {"names": ["bad", "good"]})

    async def test_list_is_no_description(self) -> None:
        """
        A listing tells nobody more of a key than its name who may not have it described.
        """
        policy = Policy("app", ("/v1/key/list/*", "/v1/key/describe/mine"))
        front = KESFront(access=Access(ADMIN, {USER: policy}))
        for name in ("mine", "other"):
            await front.call("POST", f"/v1/key/create/{name}")
        _status, described = await front.call("GET", "/v1/key/describe/mine")
        _status, told = await front.call("GET", "/v1/key/list/*?details", identity=USER)
        refused = {"name": "other", "error": "not authorized: insufficient permissions"}
        self.assertEqual(told["keys"], [described, refused])

    async def test_pages(self) -> None:
        """
        A listing with details goes on where it ended, since each key costs a read.
        """
        front = KESFront()
        names = [f"k{number:04}" for number in range(DETAILED_PAGE + 1)]
        for name in names:
            await front.store.create(name, b"no key")
        _status, told = await front.call("GET", "/v1/key/list/k*?details")
        self.assertEqual(told["names"], names[:-1])
        _status, rest = await front.call("GET", f"/v1/key/list/{told['continue_at']}?details")
        self.assertEqual(rest["names"], names[-1:])
        self.assertNotIn("continue_at", rest)


class DeletionTests(AsyncCase):
    """
    Deletion of a key can need its name twice.
    """

    async def test_confirmed(self) -> None:
        """
        Without the name in a header the key stays, and the answer tells what is missing.
        """
        front = KESFront(confirmed=True)
        await front.call("POST", "/v1/key/create/k")
        for more in ((), (("X-Kypello-Confirm", "other"),)):
            answer = await front.send("DELETE", "/v1/key/delete/k", more=more)
            self.assertEqual(answer.status, 400)
            self.assertIn(b"send the header X-Kypello-Confirm: k", answer.body)
        self.assertEqual((await front.call("GET", "/v1/key/describe/k"))[0], 200)
        answer = await front.send("DELETE", "/v1/key/delete/k", more=(("X-Kypello-Confirm", "k"),))
        self.assertEqual(answer.status, 200)
        self.assertEqual((await front.call("GET", "/v1/key/describe/k"))[0], 404)

    async def test_never_overwritten(self) -> None:
        """
        Neither making nor importing a key changes one that is there.
        """
        front = KESFront()
        await front.call("POST", "/v1/key/create/k")
        before = await front.store.get("k")
        body = {"key": b64encode(bytes(32)).decode(), "cipher": "AES256"}
        for verb, sent in (("create", None), ("import", body)):
            self.assertEqual(
                await front.call("POST", f"/v1/key/{verb}/k", sent),
                (400, {"message": "key already exists"}),
            )
        self.assertEqual(await front.store.get("k"), before)


class LimitTests(AsyncCase):
    """
    Requests that are too many are refused before they cost anything.
    """

    async def test_each(self) -> None:
        """
        Who has sent too much is told when to come again; others, and probes, are served on.
        """
        front = KESFront(limits=Limits(each=2.0))
        path = "/v1/key/list/*"
        for _ in range(2):
            self.assertEqual((await front.call("GET", path, identity=USER))[0], 200)
        answer = await front.send("GET", path, identity=USER)
        self.assertEqual((answer.status, answer.header("Retry-After")), (429, "1"))
        self.assertEqual(json.loads(answer.body), {"message": "too many requests"})
        self.assertEqual((await front.call("GET", path))[0], 200)
        for _ in range(5):
            self.assertEqual((await front.call("GET", "/v1/status"))[0], 200)
        front.clock.advance(0.5)
        self.assertEqual((await front.call("GET", path, identity=USER))[0], 200)
        self.assertEqual((await front.call("GET", path, identity=USER))[0], 429)

    async def test_strangers(self) -> None:
        """
        Those without a policy share what one identity has, however many they are.
        """
        front = KESFront(limits=Limits(each=2.0))
        path = "/v1/key/list/*"
        statuses = [
            (await front.call("GET", path, identity=f"{number:064}"))[0] for number in range(3)
        ]
        self.assertEqual(statuses, [403, 403, 429])

    async def test_total(self) -> None:
        """
        All together have a limit too, and the audit log tells who met it.
        """
        front = KESFront(limits=Limits(total=2.0))
        statuses = [
            (await front.call("GET", "/v1/key/list/*", identity=who))[0]
            for who in (ADMIN, USER, USER)
        ]
        self.assertEqual(statuses, [200, 200, 429])
        self.assertEqual((front.audits[-1]["status"], front.audits[-1]["identity"]), (429, USER))


class CallSettingTests(AsyncCase):
    """
    The configuration changes single calls.
    """

    async def test_skip_auth(self) -> None:
        """
        A call can be open to everybody; an identity is recorded when there is one.
        """
        front = KESFront(calls={"/v1/ready": Setting(skip_auth=True)})
        self.assertEqual(await front.call("GET", "/v1/ready", identity=None), (200, None))
        self.assertEqual(await front.call("GET", "/v1/ready", identity=STRANGER), (200, None))
        self.assertEqual([one["identity"] for one in front.audits], ["", STRANGER])
        self.assertEqual((await front.call("GET", "/v1/status", identity=None))[0], 400)

    async def test_self_without_certificate(self) -> None:
        """
        Nobody cannot be described.
        """
        self.assertEqual(
            await KESFront().call("GET", "/v1/identity/self/describe", identity=None),
            (400, {"message": "tls: client certificate is required"}),
        )

    async def test_timeout(self) -> None:
        """
        A time-out is told and kept.
        """
        store = Scripted()
        front = KESFront(store, calls={"/v1/key/describe/": Setting(timeout=3.0)})
        _status, told = await front.call("GET", "/v1/api")
        (found,) = (one for one in told if one["path"] == "/v1/key/describe/")
        self.assertEqual(found["timeout"], 3)
        await front.call("POST", "/v1/key/create/k")
        store.gate = Deferred()
        answering = Deferred.fromCoroutine(front.call("GET", "/v1/key/describe/k"))
        front.clock.advance(2.9)
        self.assertNoResult(answering)
        front.clock.advance(0.2)
        self.assertEqual(self.successResultOf(answering)[0], 502)


class MetricTests(AsyncCase):
    """
    Numbers have the names that dashboards read.
    """

    async def test_metrics(self) -> None:
        """
        Requests are counted by what came of them, refused ones too, and probes are not.
        """
        front = KESFront(limits=Limits(each=3.0))
        await front.call("POST", "/v1/key/create/k")
        await front.call("POST", "/v1/key/create/k")
        await front.call("GET", "/v1/key/list/*", identity=STRANGER)
        await front.call("POST", "/v1/key/list/*")
        await front.call("GET", "/v1/key/list/*")
        await front.call("GET", "/v1/key/list/*")
        await front.call("GET", "/v1/status")
        front.clock.advance(7.5)
        answer = await front.send("GET", "/v1/metrics")
        self.assertTrue((answer.header("Content-Type") or "").startswith("text/plain"))
        lines = set(answer.body.decode().splitlines())
        self.assertLessEqual(
            {
                'kes_http_request_success{code="200"} 2',
                'kes_http_request_error{code="400"} 1',
                'kes_http_request_error{code="403"} 1',
                'kes_http_request_error{code="405"} 1',
                'kes_http_request_error{code="429"} 1',
                "kes_http_request_active{} 0",
                "kes_http_request_limited{} 1",
                'kes_http_response_time_bucket{le="0.01"} 6',
                'kes_http_response_time_bucket{le="+Inf"} 6',
                "kes_http_response_time_count{} 6",
                "kes_log_error_events{} 1",
                "kes_log_audit_events{} 7",
                "kes_system_up_time{} 7.5",
            },
            lines,
        )
        names = {line.split("{")[0] for line in lines if not line.startswith("#")}
        for name in ("num_cpu", "num_cpu_used", "num_threads", "mem_heap_used"):
            self.assertIn(f"kes_system_{name}", names)

    async def test_failures(self) -> None:
        """
        What the key store fails with is counted as a failure.
        """
        front = KESFront()
        await front.store.create("bad", b"no key")
        await front.call("GET", "/v1/key/describe/bad")
        answer = await front.send("GET", "/v1/metrics")
        self.assertIn(b'kes_http_request_failure{code="502"} 1\n', answer.body)


class StreamTests(AsyncCase):
    """
    Logs are sent to clients as they are written.
    """

    def follow(self, front: KESFront, log: str) -> RawClient:
        """
        Begin to read a log.
        """
        client = front.connect()
        client.send(
            f"GET /v1/log/{log} HTTP/1.1\r\nHost: a\r\nX-Identity: {ADMIN}\r\n\r\n".encode()
        )
        head = client.take()
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(b"application/x-ndjson", head)
        return client

    async def test_audit(self) -> None:
        """
        Each record comes when its request is over, with the time in nanoseconds.
        """
        front = KESFront()
        client = self.follow(front, "audit")
        await front.call("POST", "/v1/key/create/k")
        lines = client.take().split(b"\r\n")
        record = json.loads(lines[1])
        self.assertEqual(record["request"]["path"], "/v1/key/create/k")
        self.assertEqual(record["request"]["identity"], ADMIN)
        self.assertEqual(record["response"], {"code": 200, "time": 0})

    async def test_error(self) -> None:
        """
        Refusals come as messages.
        """
        front = KESFront()
        client = self.follow(front, "error")
        await front.call("POST", "/v1/key/create/k", identity=STRANGER)
        line = json.loads(client.take().split(b"\r\n")[1])
        self.assertIn("no policy names this identity", line["message"])

    async def test_end(self) -> None:
        """
        Streams end whole when the server stops.
        """
        front = KESFront()
        client = self.follow(front, "audit")
        front.streams.end()
        self.assertTrue(client.take().endswith(b"0\r\n\r\n"))

    async def test_client_goes(self) -> None:
        """
        Nothing is kept for a client that went away.
        """
        front = KESFront()
        client = self.follow(front, "audit")
        client.go_away()
        self.assertEqual(len(front.streams._audits), 0)

    async def test_slow_client(self) -> None:
        """
        What waits for a client that does not read is bounded, and then it is cut off.
        """
        front = KESFront()
        stream = front.streams.follow_audits()
        line = "x" * 1023
        for _ in range(WAITING // 1024):
            front.streams.audit({"audit": line})
        self.assertEqual(len(await stream.read()), len(b" ") + WAITING)
        for _ in range(WAITING // 1024):
            front.streams.audit({"audit": line})
        self.assertEqual(len(front.streams._audits), 1)
        front.streams.audit({"audit": ""})
        self.assertEqual(len(front.streams._audits), 0)
        self.assertEqual(len(await stream.read()), WAITING)
        with self.assertRaises(BodyTruncated):
            await stream.read()
