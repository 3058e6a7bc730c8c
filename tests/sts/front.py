# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The security token service in memory, over real accounts, and clients that sign with botocore.
"""

import os
import time
from calendar import timegm
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from xml.etree.ElementTree import Element, fromstring

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.slowing import Slowing
from kypello.iam.values import Session
from kypello.model import Identity
from kypello.store.memory import MemoryIndex
from kypello.sts.front import STSFront
from kypello.sts.root import STSResource
from kypello.sts.wire import NAMESPACE
from kypello.testing.harness import Answer, Harness
from tests.cases import AsyncCase

ROOT = Identity("root-user", "root-secret", user="root-user")
_HOST = "http://kypello.test"
_FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def signed(
    body: bytes, access_key: str, secret_key: str, token: str | None = None, service: str = "sts"
) -> list[tuple[str, str]]:
    """
    The headers of a form that somebody signs, as botocore does it.
    """
    request = AWSRequest("POST", _HOST + "/", dict(_FORM), body)
    credentials = Credentials(access_key, secret_key, token)
    SigV4Auth(credentials, service, "us-east-1").add_auth(request)
    return [(name, str(value)) for name, value in request.headers.items()]


def form(action: str, fields: Mapping[str, str] | None = None) -> bytes:
    """
    The body of a call.
    """
    return urlencode({"Action": action, "Version": "2011-06-15", **(fields or {})}).encode()


class STSCase(AsyncCase):
    """
    A test of the service, with the root user and nobody else.
    """

    def setUp(self) -> None:
        """
        Serve accounts in memory, at the present time, a whole second.
        """
        self.serve()

    def serve(self, **options: Any) -> None:
        """
        Start over.

        :param options: For :class:`STSFront`.
        """
        self.clock = Clock()
        self.clock.advance(int(time.time()))
        self.accounts = Accounts(MemoryIndex(), None, ROOT, self.clock, os.urandom)
        self.front = STSFront(
            accounts=self.accounts,
            authenticator=Authenticator(self.accounts, None, self.clock),
            clock=self.clock,
            slowing=Slowing(self.clock),
            **options,
        )
        self.listen()

    def listen(self) -> None:
        """
        Serve the front as it is.
        """
        self.harness = Harness(STSResource(self.front), access_log=False)

    def start_call(self, action: str, fields: Mapping[str, str]) -> "Deferred[Answer]":
        """
        Begin a call that may take a while.
        """
        return Deferred.fromCoroutine(self.call(action, fields))

    async def call(
        self, action: str, fields: Mapping[str, str] | None = None, *, query: bool = False
    ) -> Answer:
        """
        Make a call that nobody signs.

        :param query: Whether it stands in the query instead of the body.
        """
        told = form(action, fields)
        if query:
            return await self.harness.request("POST", f"/?{told.decode()}", (), b"")
        return await self.harness.request("POST", "/", _FORM.items(), told)

    async def assume_role(
        self,
        fields: Mapping[str, str] | None = None,
        signer: Identity | Session = ROOT,
        service: str = "sts",
    ) -> Answer:
        """
        Ask for a session as somebody.
        """
        body = form("AssumeRole", fields)
        lines = signed(body, signer.access_key, signer.secret_key, signer.token or None, service)
        return await self.harness.request("POST", "/", lines, body)

    def granted(self, answer: Answer, action: str) -> Element:
        """
        See that an answer grants a session; give what it says.
        """
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.header("Content-Type"), "application/xml")
        tree = _tree(answer)
        self.assertEqual(tree.tag, f"{action}Response")
        self.assertEqual(
            tree.findtext("ResponseMetadata/RequestId"), answer.header("x-amz-request-id")
        )
        found = tree.find(f"{action}Result")
        assert found is not None
        return found

    async def session(self, answer: Answer, action: str) -> tuple[Identity, float]:
        """
        The session that was granted, and when it ends by the answer.
        """
        result = self.granted(answer, action)
        identity = await self.accounts.identity(result.findtext("Credentials/AccessKeyId") or "")
        assert identity is not None
        self.assertEqual(
            (identity.secret_key, identity.token),
            (
                result.findtext("Credentials/SecretAccessKey"),
                result.findtext("Credentials/SessionToken"),
            ),
        )
        stated = result.findtext("Credentials/Expiration") or ""
        return identity, time_of(stated)

    def refused(self, answer: Answer, status: int, code: str) -> str:
        """
        See that an answer is this error, complete; give its message.
        """
        self.assertEqual(answer.status, status, answer.body)
        tree = _tree(answer)
        self.assertEqual((tree.tag, tree.findtext("Error/Code")), ("ErrorResponse", code))
        self.assertEqual(tree.findtext("Error/Type"), "")
        self.assertEqual(tree.findtext("RequestId"), answer.header("x-amz-request-id"))
        message = tree.findtext("Error/Message") or ""
        self.assertTrue(message)
        return message


def time_of(text: str) -> float:
    """
    The moment that an answer tells, in seconds since the epoch.
    """
    return timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def _tree(answer: Answer) -> Element:
    tree = fromstring(answer.body)
    for element in tree.iter():
        assert element.tag.startswith(f"{{{NAMESPACE}}}"), element.tag
        element.tag = element.tag.partition("}")[2]
    return tree
