# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.bearer``.
"""

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

from twisted.internet.defer import Deferred

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.monitor.bearer import Bearers
from tests.admin.front import ROOT, AdminCase, Signer, policy

_DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


def token(by: Signer, header: Any = None, digest: str = "sha512", **claims: Any) -> str:
    """
    A token as ``mc`` makes it, but for what the test wants otherwise.
    """
    parts = [
        header or {"alg": "HS512", "typ": "JWT"},
        {"iss": "prometheus", "sub": by.access_key, "exp": 4e9, **claims},
    ]
    signed = b".".join(_encode(json.dumps(part).encode()) for part in parts)
    signature = hmac.digest(by.secret_key.encode(), signed, digest)
    return (signed + b"." + _encode(signature)).decode()


def _encode(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


class BearerTests(AdminCase):
    """
    Who may read the metrics.
    """

    def setUp(self) -> None:
        """
        Judge tokens by the accounts of a server.
        """
        super().setUp()
        self.bearers = Bearers(self.accounts, self.clock)

    def admits(self, text: str, scheme: str = "Bearer ") -> bool:
        """
        Whether a token is let in; otherwise it is refused with the one error.
        """
        head = RequestHead(
            "GET",
            "/minio/v2/metrics/cluster",
            (),
            (("authorization", scheme + text),),
            peer="192.0.2.1",
        )
        checked = Deferred.fromCoroutine(self.bearers.check(head))
        self.clock.advance(10)
        if checked.called and checked.result is None:
            return True
        error = self.failureResultOf(checked, Refused).value
        self.assertEqual(error.code, "AccessDenied")
        return False

    def test_algorithms(self) -> None:
        """
        The three HMACs count, and nothing else does, no matter what the token says.
        """
        for name, digest in _DIGESTS.items():
            header = {"alg": name, "typ": "JWT"}
            self.assertTrue(self.admits(token(ROOT, header, digest)), name)
            self.assertFalse(self.admits(token(ROOT, header, "sha1")), name)
        for header in ({"alg": "none"}, {"alg": "RS256"}, {"alg": "hs512"}, {"typ": "JWT"}):
            self.assertFalse(self.admits(token(ROOT, header)), header)
        self.assertFalse(self.admits(token(ROOT, {"alg": "HS512", "crit": ["x"]})))

    def test_claims(self) -> None:
        """
        The issuer and the times have to be right; the access key may be in either of two claims.
        """
        self.assertTrue(self.admits(token(ROOT, exp=None)))
        self.assertTrue(self.admits(token(ROOT, sub="", accessKey=ROOT.access_key)))
        for claims in (
            {"iss": "other"},
            {"exp": 1},
            {"exp": "never"},
            {"nbf": 4e9},
            {"sub": ""},
            {"sub": "nobody"},
            {"sub": ["root-user"]},
        ):
            self.assertFalse(self.admits(token(ROOT, **claims)), claims)

    def test_signature(self) -> None:
        """
        A token that was changed anywhere, or signed by another secret, does not count.
        """
        good = token(ROOT)
        self.assertFalse(self.admits(token(Signer(ROOT.access_key, "another-secret"))))
        head, claims, signature = good.split(".")
        for bad in (
            f"{head}.{claims}.",
            f"{head}.{claims}",
            f"{head}.{claims}.{signature[:-2]}",
            f"{head}.{claims[:-4]}.{signature}",
            f"{head}.{claims}.{signature}.{signature}",
            "..",
        ):
            self.assertFalse(self.admits(bad), bad)
        self.assertFalse(self.admits(good, "Basic "))
        self.assertTrue(self.admits(good, "bearer  "))

    def test_rights(self) -> None:
        """
        Who is not the root user needs the right to, and must not be disabled.
        """
        reader = self.make_user("reader", policy("admin:Prometheus"))
        other = self.make_user("other", policy("admin:ServerInfo"))
        self.assertTrue(self.admits(token(reader)))
        self.assertFalse(self.admits(token(other)))
        self.assertTrue(self.admits(token(self.make_key(reader))))
        self.done(self.accounts.set_user_enabled("reader", enabled=False))
        self.assertFalse(self.admits(token(reader)))
