# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The whole front over stores in memory, and a client that signs with botocore.
"""

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, fromstring

from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.internet.task import Clock

from kypello.iam.authenticate import Authenticator
from kypello.kmsconfig import Reuse
from kypello.model import Identity
from kypello.monitor.health import Health
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.objects.rewrapping import Rewrapping
from kypello.s3.call import Front
from kypello.s3.errors import refuse_framing
from kypello.s3.root import S3Resource
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import FakeStorage, InlineLanes
from kypello.testing.harness import Answer, Harness
from tests.cases import SyncCase
from tests.objects.keyservice import MemoryKMS
from tests.root import Root

ROOT = Identity("root-user", "root-secret")
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
CREDENTIALS = Credentials(ROOT.access_key, ROOT.secret_key)
_HOST = "http://kypello.test"

Headers = Mapping[str, str]


def at(bucket: str, key: str | bytes, query: str = "") -> str:
    """
    The target of a key, escaped as clients do it.
    """
    return f"/{bucket}/{quote(key, safe='/-._~')}" + (f"?{query}" if query else "")


def signed(
    method: str, target: str, headers: Headers, body: bytes, region: str = "us-east-1"
) -> list[tuple[str, str]]:
    """
    The headers of a request that the root user signs, each byte being one character.
    """
    request = AWSRequest(method, _HOST + target, dict(headers), body)
    S3SigV4Auth(CREDENTIALS, "s3", region).add_auth(request)
    return [
        (name, str(value).encode().decode("latin-1")) for name, value in request.headers.items()
    ]


def presigned_plainly(method: str, target: str, headers: Headers | None = None) -> str:
    """
    The same as the AWS tools do it by default, with version 2.
    """
    request = AWSRequest(method, _HOST + target, dict(headers or {}))
    request.auth_path = None
    HmacV1QueryAuth(CREDENTIALS, expires=600).add_auth(request)
    return str(request.url).removeprefix(_HOST)


def presigned(method: str, target: str, headers: Headers | None = None) -> str:
    """
    A target with the signature of the root user in its query.
    """
    request = AWSRequest(method, _HOST + target, dict(headers or {}))
    S3SigV4QueryAuth(CREDENTIALS, "s3", "us-east-1", expires=600).add_auth(request)
    return str(request.url).removeprefix(_HOST)


def read_xml(answer: Answer) -> Element:
    """
    The document of an answer, its tags without the namespace that all but errors have.
    """
    tree = fromstring(answer.body)
    error = tree.tag == "Error"
    for element in tree.iter():
        assert error or element.tag.startswith(NAMESPACE), element.tag
        element.tag = element.tag.removeprefix(NAMESPACE)
    return tree


def texts(tree: Element, path: str) -> list[str]:
    """
    The texts of all elements at a path.
    """
    return [element.text or "" for element in tree.findall(path)]


class FrontCase(SyncCase):
    """
    A test of the front, with a bucket ``bucket`` and a KMS.

    :cvar region: What is configured.
    """

    region: str | None = None

    def setUp(self) -> None:
        """
        Serve stores in memory, at the present time.
        """
        self.kms = MemoryKMS.with_default_key()
        self.serve()

    def serve(self, *, encrypts: bool = True, signature_v2: bool = True, **options: Any) -> None:
        """
        Start over, with an empty bucket.

        :param options: For :class:`Front`.
        """
        clock = Clock()
        clock.advance(time.time())
        self.below = LayoutStore(MemoryIndex(), MemoryBlobs(), clock, os.urandom)
        keys = DataKeys(self.kms, clock, Reuse()) if encrypts else None
        self.store = EncryptedStore(self.below, keys, os.urandom)
        self.health = Health(FakeStorage(), self.kms if encrypts else None, clock)
        root = Root(ROOT)
        self.front = Front(
            store=self.store,
            authenticator=Authenticator(root, self.region, clock, signature_v2),
            authorizer=root,
            lanes=InlineLanes(),
            region=self.region,
            clock=clock,
            encrypts=encrypts,
            rewrapping=Rewrapping(self.below, keys, os.urandom) if encrypts else None,
            **options,
        )
        self.clock = clock
        self.harness = Harness(
            S3Resource(self.front, self.health.probe),
            access_log=False,
            refusal=partial(refuse_framing, host_id=self.front.host_id),
        )
        self.send("PUT", "/bucket", status=200)

    def send(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Headers | None = None,
        *,
        status: int | None = None,
    ) -> Answer:
        """
        Send a request that the root user signed, and wait for the answer.

        :param status: What the answer must have.
        """
        lines = signed(method, target, headers or {}, body, self.region or "us-east-1")
        answer = self.plainly(method, target, lines, body)
        if status is not None:
            self.assertEqual(answer.status, status, answer.body)
        return answer

    def plainly(
        self, method: str, target: str, lines: list[tuple[str, str]], body: bytes = b""
    ) -> Answer:
        """
        Send a request as it is.
        """
        content = body if body or method in ("PUT", "POST") else None
        answer = self.successResultOf(self.harness.request(method, target, lines, content))
        assert isinstance(answer, Answer)
        return answer

    def put(self, key: str | bytes, body: bytes = b"content", **headers: str) -> Answer:
        """
        Store an object; underscores in names of headers stand for hyphens.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("PUT", at("bucket", key), body, named, status=200)

    def assert_refused(self, answer: Answer, status: int, code: str) -> Element:
        """
        See that an answer is this error, complete; give its document.
        """
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer.header("Content-Type"), "application/xml")
        tree = read_xml(answer)
        self.assertEqual((tree.tag, tree.findtext("Code")), ("Error", code), answer.body)
        self.assertTrue(tree.findtext("Message"))
        self.assertEqual(tree.findtext("RequestId"), answer.header("x-amz-request-id"))
        self.assertEqual(tree.findtext("HostId"), answer.header("x-amz-id-2"))
        return tree

    def refused(
        self,
        method: str,
        target: str,
        status: int,
        code: str,
        *,
        body: bytes = b"",
        headers: Headers | None = None,
    ) -> Element:
        """
        Send a signed request that must be refused.
        """
        return self.assert_refused(self.send(method, target, body, headers), status, code)
