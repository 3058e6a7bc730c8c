# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.sts``: whatever is sent is answered in the words of the protocol.
"""

import os
from urllib.parse import quote, urlencode
from xml.etree.ElementTree import fromstring

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.authorities import Authorities
from kypello.iam.certificates import Certificates
from kypello.iam.openid import OpenID
from kypello.iam.pace import Pace
from kypello.iam.slowing import Slowing
from kypello.identityconfig import OpenIDSettings
from kypello.store.memory import MemoryIndex
from kypello.sts.actions import ACTIONS, EVEN
from kypello.sts.front import STSFront
from kypello.sts.root import STSResource
from kypello.sts.wire import NAMESPACE
from kypello.testing.harness import Answer, Harness
from tests.cases import SyncCase
from tests.iam.issuer import CLIENT, ISSUER, Issuer
from tests.sts.front import ROOT
from tests.sts.test_ldap_identity import PASSWORD, MemoryDirectory

_FORM = ("Content-Type", "application/x-www-form-urlencoded")
_NAMES = (
    "DurationSeconds",
    "LDAPPassword",
    "LDAPUsername",
    "Policy",
    "RoleArn",
    "RoleSessionName",
    "Token",
    "TokenRevokeType",
    "WebIdentityAccessToken",
    "WebIdentityToken",
)
_TOKEN = Issuer().token(1000.0)
_TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        (
            "900",
            "alice",
            PASSWORD,
            _TOKEN,
            _TOKEN[:-3],
            "a.b.c",
            "{}",
            "[]",
            '{"Version":"2012-10-17","Statement":[]}',
            "arn:minio:iam:::role/x",
            "\x00",
            "\ud7ff\ufffe",
            "9" * 400,
        )
    ),
)


class HostileTests(SyncCase):
    """
    A service with all parts.
    """

    def setUp(self) -> None:
        """
        Serve one with whom nobody has to wait.
        """
        self.clock = Clock()
        self.clock.advance(1000)
        accounts = Accounts(MemoryIndex(), None, ROOT, self.clock, os.urandom)
        provider = OpenIDSettings("", f"{ISSUER}/.well-known/openid-configuration", CLIENT)
        front = STSFront(
            accounts=accounts,
            authenticator=Authenticator(accounts, None, self.clock),
            clock=self.clock,
            slowing=Slowing(self.clock, 10.0, Pace(1e9, 1e9), Pace(1e9, 1e9)),
            web_identities=OpenID.make(self.clock, Issuer().get, [provider]),
            directory=MemoryDirectory(self.clock, {"alice": ()}),
            certificates=Certificates(Authorities().store),
        )
        self.harness = Harness(STSResource(front), access_log=False)

    def send(self, target: str, body: bytes) -> Answer:
        """
        Send a request, and wait until even a failed login is answered.
        """
        answer = self.harness.request("POST", target, [_FORM], body)
        self.clock.advance(0)
        self.clock.advance(EVEN)
        found = self.successResultOf(answer)
        assert isinstance(found, Answer)
        tree = fromstring(found.body)
        self.assertIn(found.status, (200, 400, 403, 503))
        self.assertTrue(tree.tag.startswith(f"{{{NAMESPACE}}}"))
        self.assertEqual(self.flushLoggedErrors(), [])
        return found

    @settings(deadline=None)
    @given(st.sampled_from(sorted(ACTIONS)), st.dictionaries(st.sampled_from(_NAMES), _TEXTS))
    def test_fields(self, action: str, fields: dict[str, str]) -> None:
        """
        No value of any field does harm.
        """
        told = urlencode({"Action": action, "Version": "2011-06-15", **fields})
        self.send("/", told.encode())
        self.send(f"/?{told}", b"")

    @settings(deadline=None)
    @given(st.binary(max_size=80), st.text(max_size=20))
    def test_bytes(self, body: bytes, query: str) -> None:
        """
        No bytes do, where a form should be.
        """
        self.send(f"/?{quote(query)}", body)
        self.send("/", b"Version=2011-06-15&Action=AssumeRole&" + body)

    def test_insecure(self) -> None:
        """
        Certificates do not count where there is no TLS.
        """
        query = urlencode({"Action": "AssumeRoleWithCertificate", "Version": "2011-06-15"})
        self.assertIn(b"<Code>InsecureConnection</Code>", self.send(f"/?{query}", b"").body)
