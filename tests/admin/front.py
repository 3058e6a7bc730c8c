# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The whole administration front over an index in memory, and clients that sign with botocore.
"""

import json
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from attrs import frozen
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.admin.call import AdminFront
from kypello.admin.root import AdminResource
from kypello.crypto.payload import PayloadCipher, decrypt, encrypt
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.values import Holder, HolderKind
from kypello.lifecycle.fates import Calendar
from kypello.model import Identity
from kypello.objects.datakeys import DataKeys
from kypello.policy.document import parse_policy
from kypello.scanner.over import Over
from kypello.scanner.scan import Scan
from kypello.scanner.usage import Usage, UsageVisitor
from kypello.scannerconfig import Pace
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import InlineLanes
from kypello.testing.harness import Answer, Harness
from tests.cases import SyncCase
from tests.objects.keyservice import MemoryKMS

ADMIN = "/minio/admin/v3/"
_HOST = "http://kypello.test"
_OBJECTS = ["arn:aws:s3:::*"]


@frozen
class Signer:
    """
    Somebody who signs.

    :ivar token: Of a session.
    """

    access_key: str
    secret_key: str
    token: str | None = None


ROOT = Signer("root-user", "root-secret")


def policy(*actions: str, effect: str = "Allow") -> bytes:
    """
    A policy about some actions.
    """
    statement: dict[str, Any] = {"Effect": effect, "Action": list(actions)}
    if any(action.startswith("s3:") for action in actions):
        statement["Resource"] = _OBJECTS
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()


class AdminCase(SyncCase):
    """
    A test of the administration API.

    :cvar encrypts: Whether there is a KMS.
    """

    encrypts = True

    def setUp(self) -> None:
        """
        Serve an index in memory, at the present time.
        """
        self.clock = Clock()
        self.clock.advance(time.time())
        self.kms = MemoryKMS.with_default_key()
        self.index = MemoryIndex()
        root = Identity(ROOT.access_key, ROOT.secret_key, user=ROOT.access_key)
        keys = DataKeys(self.kms, self.clock)
        self.accounts = Accounts(self.index, keys, root, self.clock, os.urandom)
        self.store = LayoutStore(self.index, MemoryBlobs(), self.clock, os.urandom)
        self.usage = Usage(self.index)
        self.services: list[str] = []
        self.front = AdminFront(
            accounts=self.accounts,
            authenticator=Authenticator(self.accounts, None, self.clock),
            store=self.store,
            kms=self.kms if self.encrypts else None,
            clock=self.clock,
            lanes=InlineLanes(),
            root=ROOT.access_key,
            region=None,
            directory=Path("/"),
            started=self.clock.seconds() - 7,
            version="0.0",
            usage=self.usage,
            over=Over(self.store, Calendar(), None),
            cipher=PayloadCipher.PBKDF2_AES,  # for the sake of time
            services={
                "stop": lambda: self.services.append("stop"),
                "restart": lambda: self.services.append("restart"),
                "freeze": lambda: self.services.append("freeze"),
                "unfreeze": lambda: self.services.append("unfreeze"),
            },
        )
        self.harness = Harness(AdminResource(self.front), access_log=False)

    def scan(self) -> None:
        """
        Count what there is.
        """
        visitors = [UsageVisitor(self.usage, self.clock)]
        scan = Scan(self.store, visitors, self.clock, Pace(0))
        scanning = Deferred.fromCoroutine(scan.round())
        while not scanning.called:
            self.clock.advance(0)
        self.successResultOf(scanning)

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        What a coroutine that waits for nothing outside of the test gives.
        """
        return self.successResultOf(Deferred.fromCoroutine(work))

    def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        by: Signer = ROOT,
        status: int = 200,
        sent: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """
        Send a signed request.

        :param target: Below the path of the API, or all of the path.
        :param status: What the answer must have.
        :param sent: What is sent in place of the body that is signed.
        """
        path = target if target.startswith("/") else ADMIN + target
        lines = self.signed(method, path, body, by, **headers)
        content = body if sent is None else sent
        answer = self.plainly(
            method, path, lines, content if content or method in ("PUT", "POST") else None
        )
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def signed(
        self, method: str, path: str, body: bytes = b"", by: Signer = ROOT, **headers: str
    ) -> list[tuple[str, str]]:
        """
        The headers of a signed request.
        """
        request = AWSRequest(method, _HOST + path, headers, body)
        credentials = Credentials(by.access_key, by.secret_key, by.token)
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
        return [(name, str(value)) for name, value in request.headers.items()]

    def plainly(
        self, method: str, path: str, lines: list[tuple[str, str]], body: bytes | None = None
    ) -> Answer:
        """
        Send a request as it is.
        """
        answer = self.successResultOf(self.harness.request(method, path, lines, body))
        assert isinstance(answer, Answer)
        return answer

    def sealed(
        self, method: str, target: str, value: Any, *, by: Signer = ROOT, status: int = 200
    ) -> Answer:
        """
        Send a request with an encrypted document.
        """
        content = json.dumps(value).encode()
        payload = encrypt(by.secret_key, content, os.urandom, PayloadCipher.PBKDF2_AES)
        return self.send(method, target, payload, by=by, status=status)

    def told(self, target: str, *, by: Signer = ROOT) -> Any:
        """
        What a route tells in clear.
        """
        return json.loads(self.send("GET", target, by=by).body)

    def opened(self, answer: Answer, by: Signer = ROOT) -> Any:
        """
        What an encrypted answer tells.
        """
        self.assertEqual(answer.header("Content-Type"), "application/json")
        return json.loads(decrypt(by.secret_key, answer.body))

    def told_secretly(self, target: str, *, by: Signer = ROOT) -> Any:
        """
        What a route tells encrypted.
        """
        return self.opened(self.send("GET", target, by=by), by)

    def refused(self, answer: Answer, code: str) -> str:
        """
        See that an answer is this error, complete; give its text.
        """
        self.assertEqual(answer.header("Content-Type"), "application/json")
        told = json.loads(answer.body)
        self.assertEqual(told["Code"], code, told)
        self.assertEqual(told["RequestId"], answer.header("x-amz-request-id"))
        self.assertEqual(told["HostId"], "kypello")
        self.assertTrue(told["Message"])
        self.assertTrue(answer.body.endswith(b"}\n"))
        return str(told["Message"])

    def make_user(self, name: str, *documents: bytes) -> Signer:
        """
        Make a user with policies.
        """
        signer = Signer(name, f"{name}-secret")
        self.done(self.accounts.set_user(name, signer.secret_key))
        for number, document in enumerate(documents):
            named = f"{name}-{number}"
            self.done(self.accounts.put_policy(named, parse_policy(document)))
            self.done(self.accounts.attach([named], Holder(HolderKind.USER, name)))
        return signer

    def make_key(self, by: Signer, **members: Any) -> Signer:
        """
        Make a service account.
        """
        answer = self.sealed("PUT", "add-service-account", members, by=by)
        made = self.opened(answer, by)["credentials"]
        return Signer(made["accessKey"], made["secretKey"])
