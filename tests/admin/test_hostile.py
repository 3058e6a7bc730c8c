# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whatever is sent to the administration API, it is answered, and never as a defect of the server.
"""

import json
import os
from urllib.parse import quote

from kypello.admin.routes import ROUTES
from kypello.crypto.payload import MAX_PAYLOAD, PayloadCipher, encrypt
from tests.admin.front import ROOT, AdminCase

_TEXTS = (
    "",
    "a",
    "root-user",
    "somebody",
    "x" * 5000,
    "a\0b",
    "a\nb",
    "../../etc/passwd",
    "*",
    "ä\u2028\U0001f600",
    "\ufeff",
    "%2F",
    "a=b,c",
    " somebody ",
    "-1",
    "9" * 400,
)

_NAMES = (
    "accessKey",
    "action",
    "bucket",
    "clientToken",
    "group",
    "isGroup",
    "key",
    "key-id",
    "listType",
    "name",
    "pattern",
    "policy",
    "policyName",
    "status",
    "subSys",
    "tokenRevokeType",
    "user",
    "userOrGroup",
    "users",
)

_BODIES = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 50_000,
    b'{"group":null}',
    b'{"group":"\\u0000","members":["\\ud800"],"isRemove":true}',
    b'{"group":"staff","members":[""]}',
    b'{"policies":[""],"user":"somebody"}',
    b'{"policies":["readonly","\\u0000"],"user":"\\u0000"}',
    b'{"secretKey":"\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00'
    b'\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00"}',
    b'{"expiration":"9999-12-31T23:59:59Z"}',
    b'{"expiration":"0001-01-01T00:00:00+23:59"}',
    b'{"policy":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[null]}]}}',
    b'{"newPolicy":[[[[[]]]]],"newExpiration":"-"}',
    b'{"policy":1e999}',
    b'{"policy":{"Version":"2012-10-17","Statement":' + b"[" * 900 + b"]" * 900 + b"}}",
)


class HostileTests(AdminCase):
    """
    Odd parameters and bodies.
    """

    def setUp(self) -> None:
        """
        Have a user, who has a key.
        """
        super().setUp()
        self.user = self.make_user("somebody")
        self.key = self.make_key(self.user)

    def ask(self, method: str, target: str, body: bytes) -> None:
        """
        Send a request, and see that it is answered with success or as a mistake of the client.
        """
        lines = self.signed(method, target, body)
        content = body if body or method in ("PUT", "POST") else None
        answer = self.plainly(method, target, lines, content)
        good = answer.status < 500 or answer.status == 501
        self.assertTrue(good, (method, target[:200], body[:100], answer.status, answer.body))
        self.assertNotIn(self.user.secret_key.encode(), answer.body)

    def test_parameters(self) -> None:
        """
        Every parameter may hold anything.
        """
        for text in _TEXTS:
            query = "&".join(f"{name}={quote(text, safe='')}" for name in _NAMES)
            tail = quote(text, safe="")
            for route in ROUTES:
                if route.offered:
                    path = route.path.replace("*", tail)
                    self.ask(route.method, f"{path}?{query}", b"")

    def test_bodies(self) -> None:
        """
        Every body may be anything, in clear or encrypted.
        """
        query = f"?accessKey={self.key.access_key}&name=n&pattern=%2A"
        for route in ROUTES:
            if route.method not in ("PUT", "POST") or not route.offered:
                continue
            for body in _BODIES:
                path = route.path.replace("*", "builtin") + query
                self.ask(route.method, path, body)
                if route.limit == MAX_PAYLOAD:
                    sealed = encrypt(ROOT.secret_key, body, os.urandom, PayloadCipher.PBKDF2_AES)
                    self.ask(route.method, path, sealed)

    def test_many_members(self) -> None:
        """
        Lists as long as a body may be are refused at once.
        """
        members = [f"member-{number}" for number in range(15_000)]
        body = json.dumps({"group": "staff", "members": members}).encode()
        self.ask("PUT", "/minio/admin/v3/update-group-members", body)
