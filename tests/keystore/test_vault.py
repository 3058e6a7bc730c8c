# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.vault`` and its modules; those with a real server are in
``tests.integration``.
"""

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import KeyNotFound, KeyStoreFailed, KeyStoreUnreachable
from kypello.keystore.web import DEADLINE, MAX_ANSWER
from tests.cases import SyncCase
from tests.keystore.vaultserver import (
    LOGIN,
    RENEWAL,
    Reply,
    VaultServer,
    make_store,
    reply,
)

T = TypeVar("T")

_ENTRY = "GET kv/data/a"
_REFUSED = reply(403, {"errors": ["permission denied"]})


class VaultCase(SyncCase):
    """
    A test with a server and a store.
    """

    def setUp(self) -> None:
        """
        Make both; nobody is logged in.
        """
        self.clock = Clock()
        self.server = VaultServer(self.clock)
        self.store = make_store(self.server)

    def done(self, call: Any) -> Any:
        """
        What a call gives at once.
        """
        return self.successResultOf(Deferred.fromCoroutine(call))

    def failed(self, kind: type[BaseException], call: Any) -> str:
        """
        Why a call fails at once.
        """
        failure = self.failureResultOf(Deferred.fromCoroutine(call), kind)
        return str(failure.value)

    def ask(self) -> str:
        """
        Ask for a key that is not there.

        :return: The token that was shown.
        """
        self.failed(KeyNotFound, self.store.get("a"))
        return self.server.asked[-1][1]


class RenewalTests(VaultCase):
    """
    A token is renewed before it ends.
    """

    def test_renewed(self) -> None:
        """
        After four fifths of its life a token is made to live longer, again and again, without
        another login.
        """
        self.assertEqual(self.ask(), "token-0")
        self.clock.advance(79.0)
        self.assertEqual(self.server.times(RENEWAL), 0)
        self.clock.advance(1.0)
        for number in range(1, 6):
            self.assertEqual(self.server.times(RENEWAL), number)
            self.assertEqual(self.ask(), "token-0")
            self.clock.advance(80.0)
        self.assertEqual(self.server.times(LOGIN), 1)

    def test_not_renewable(self) -> None:
        """
        One that cannot be renewed is replaced; the new one is used when a cluster knows it.
        """
        self.server.renewable = False
        self.ask()
        self.clock.advance(80.0)
        self.assertEqual((self.server.times(LOGIN), self.ask()), (2, "token-0"))
        self.clock.advance(9.0)
        self.assertEqual(self.ask(), "token-0")
        self.clock.advance(1.0)
        self.assertEqual(self.ask(), "token-1")
        self.assertEqual(self.server.times(RENEWAL), 0)
        # Its life began when it was made.
        self.clock.advance(70.0)
        self.assertEqual(self.server.times(LOGIN), 3)

    def test_refused(self) -> None:
        """
        One whose renewal is refused is replaced.
        """
        self.ask()
        self.server.replies[RENEWAL] = _REFUSED
        self.clock.advance(80.0)
        self.assertEqual((self.server.times(RENEWAL), self.server.times(LOGIN)), (1, 2))
        self.clock.advance(10.0)
        self.assertEqual(self.ask(), "token-1")

    def test_at_its_end(self) -> None:
        """
        One that gets hardly more life is replaced.
        """
        self.ask()
        auth = {"client_token": "token-0", "lease_duration": 5, "renewable": True}
        self.server.replies[RENEWAL] = reply(200, {"auth": auth})
        self.clock.advance(80.0)
        self.clock.advance(10.0)
        self.assertEqual(self.ask(), "token-1")

    def test_tried_again(self) -> None:
        """
        A renewal that fails is tried again every three seconds, and the token is used meanwhile.
        """
        self.ask()
        self.server.replies[RENEWAL] = reply(500, {"errors": ["internal error"]})
        self.clock.advance(80.0)
        self.clock.pump([1.0] * 6)
        self.assertEqual(self.server.times(RENEWAL), 3)
        self.assertEqual(self.ask(), "token-0")
        del self.server.replies[RENEWAL]
        self.clock.advance(3.0)
        self.clock.advance(79.0)
        self.assertEqual((self.server.times(RENEWAL), self.ask()), (4, "token-0"))
        self.assertEqual(self.server.times(LOGIN), 1)

    def test_ended(self) -> None:
        """
        When all that fails until the token ends, the next call logs in.
        """
        self.ask()
        self.server.replies[RENEWAL] = self.server.replies[LOGIN] = reply(502)
        self.clock.advance(80.0)
        self.clock.pump([1.0] * 30)
        self.failed(KeyStoreUnreachable, self.store.get("a"))
        self.server.replies.clear()
        self.assertEqual(self.ask(), "token-1")

    def test_replaced_meanwhile(self) -> None:
        """
        A token that a call has got because the old one was refused is not replaced by an older.
        """
        self.server.renewable = False
        self.ask()
        self.clock.advance(80.0)
        self.server.tokens["token-0"] = 0.0
        self.assertEqual(self.ask(), "token-2")
        self.clock.advance(30.0)
        self.assertEqual(self.ask(), "token-2")

    def test_no_end(self) -> None:
        """
        A token without an end is not renewed.
        """
        self.server.life = 0.0
        self.ask()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        """
        A closed store leaves nothing behind: no timer, and no login that is under way.
        """
        self.ask()
        self.done(self.store.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.server.renewable = False
        other = make_store(self.server)
        self.failed(KeyNotFound, other.get("a"))
        self.clock.advance(80.0)
        self.done(other.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SilenceTests(VaultCase):
    """
    A server that does not answer.
    """

    def test_silence(self) -> None:
        """
        A call has a deadline; those that follow fail at once for some time, and then one asks.
        """
        self.ask()
        self.server.replies["*"] = None
        call: Deferred[bytes] = Deferred.fromCoroutine(self.store.get("a"))
        self.clock.advance(DEADLINE - 0.1)
        self.assertNoResult(call)
        self.clock.advance(0.2)
        self.assertIn("not answer in time", str(self.failureResultOf(call).value))
        before = len(self.server.asked)
        self.server.replies.clear()
        self.clock.advance(9.0)
        self.failed(KeyStoreUnreachable, self.store.get("a"))
        self.assertEqual(len(self.server.asked), before)
        self.clock.advance(1.0)
        self.ask()

    def test_status(self) -> None:
        """
        The question how the server is goes out also then, and a good answer ends the pause.
        """
        self.ask()
        self.server.replies["*"] = None
        call: Deferred[bytes] = Deferred.fromCoroutine(self.store.get("a"))
        self.clock.advance(DEADLINE)
        self.failureResultOf(call, KeyStoreUnreachable)
        self.server.replies.clear()
        self.assertEqual(self.done(self.store.status()), 0.0)
        self.ask()

    def test_quick_failures(self) -> None:
        """
        Failures that are told quickly are not remembered.
        """
        self.ask()
        self.server.replies["*"] = reply(503, {"errors": ["Vault is sealed"]})
        self.assertIn("sealed", self.failed(KeyStoreUnreachable, self.store.get("a")))
        self.server.replies.clear()
        self.ask()


class AnswerTests(VaultCase):
    """
    What answers mean.
    """

    def test_states(self) -> None:
        """
        What may pass by itself makes the store unreachable.
        """
        self.ask()
        for status in (412, 429, 472, 473, 500, 502, 503, 504):
            self.server.replies[_ENTRY] = reply(status, {"errors": ["no"]})
            reason = self.failed(KeyStoreUnreachable, self.store.get("a"))
            self.assertIn(f"it answers {status}: no", reason)

    def test_strangers(self) -> None:
        """
        Only a Vault can say that a key is missing: a proxy, a page, or another service cannot.
        """
        self.ask()
        for answer in (
            (404, {}, b"<html>not found</html>"),
            (404, {}, b""),
            (200, {}, b"<html>welcome</html>"),
            (200, {}, b"[]"),
            (200, {}, b"[" * 100_000),
            (302, {"Location": f"{self.id()}"}, b""),
            reply(200, {"data": "x"}),
            reply(200, {"data": {"data": ["x"]}}),
            reply(404, {"errors": ["no handler for route"]}),
            reply(404, {"errors": [], "warnings": ["Invalid path for a versioned engine"]}),
        ):
            self.server.replies[_ENTRY] = answer
            self.failed(KeyStoreFailed, self.store.get("a"))

    def test_flood(self) -> None:
        """
        An answer that is longer than any is given up.
        """
        self.ask()
        self.server.replies[_ENTRY] = 200, {}, bytes(MAX_ANSWER + 1)
        self.assertIn("longer than any", self.failed(KeyStoreFailed, self.store.get("a")))

    def test_create(self) -> None:
        """
        A creation counts only when the server says that it made the first version.
        """
        self.ask()
        for answer in (reply(204), reply(200, {"data": {"version": 2}}), reply(200, {"a": 1})):
            self.server.replies["PUT kv/data/a"] = answer
            self.failed(KeyStoreFailed, self.store.create("a", b"value"))

    def test_create_is_not_repeated(self) -> None:
        """
        A creation whose answer is lost is not sent again: it may have happened.
        """
        self.ask()
        self.server.replies["PUT kv/data/a"] = None
        call: Deferred[None] = Deferred.fromCoroutine(self.store.create("a", b"value"))
        self.clock.advance(DEADLINE)
        self.failureResultOf(call, KeyStoreUnreachable)
        self.assertEqual(self.server.times("PUT kv/data/a"), 1)

    def test_names(self) -> None:
        """
        A listing that is none is no empty store.
        """
        self.ask()
        for content in ({"data": {}}, {"data": {"keys": None}}, {"x": 1}):
            self.server.replies["GET kv/metadata"] = reply(200, content)
            self.failed(KeyStoreFailed, self.store.names())

    def test_health(self) -> None:
        """
        Whatever else answers at the address is not taken for a Vault.
        """
        for answer in (reply(200, {"status": "up"}), (200, {}, b"welcome"), reply(204)):
            self.server.replies["GET sys/health"] = answer
            self.failed(KeyStoreFailed, self.store.status())

    def test_login(self) -> None:
        """
        A login that brings no token fails; what was sent is in no text.
        """
        for answer in (
            reply(200, {"auth": None}),
            reply(200, {"auth": {"client_token": ""}}),
            reply(400, {"errors": ["invalid role or secret ID"]}),
        ):
            self.server.replies[LOGIN] = answer
            reason = self.failed(KeyStoreFailed, self.store.get("a"))
            self.assertNotIn("opensesame", reason)


class RedirectionTests(VaultCase):
    """
    A standby that sends its clients elsewhere.
    """

    def redirected(self, answer: Reply) -> list[str]:
        """
        What is asked when the entry answers so.
        """
        self.ask()
        self.server.asked.clear()
        self.server.replies[_ENTRY] = answer
        Deferred.fromCoroutine(self.store.get("a")).addErrback(
            lambda failure: failure.trap(KeyStoreFailed, KeyNotFound)
        )
        return [what for what, _ in self.server.asked]

    def test_followed(self) -> None:
        """
        One redirection is followed, with the token.
        """
        answer = reply(307, None, Location="https://active:8200/v1/kv/data/b?version=1")
        self.assertEqual(self.redirected(answer), [_ENTRY, "GET kv/data/b"])
        self.assertEqual(self.server.asked[-1][1], "token-0")

    def test_circle(self) -> None:
        """
        A second one is not.
        """
        answer = reply(307, None, Location="https://active:8200/v1/kv/data/a")
        self.assertEqual(self.redirected(answer), [_ENTRY, _ENTRY])

    def test_out_of_tls(self) -> None:
        """
        Nobody is followed out of TLS, where the token could be read.
        """
        answer = reply(307, None, Location="http://active:8200/v1/kv/data/a")
        self.assertEqual(self.redirected(answer), [_ENTRY])
