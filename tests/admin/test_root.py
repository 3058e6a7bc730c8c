# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what surrounds every call of the administration API.
"""

import json
from hashlib import sha256

from botocore.auth import HmacV1Auth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from kypello.admin.routes import MAX_DOCUMENT, ROUTES
from kypello.crypto.payload import MAX_PAYLOAD
from tests.admin.front import ADMIN, ROOT, AdminCase, Signer, policy

_EMPTY = sha256(b"").hexdigest()


class EnvelopeTests(AdminCase):
    """
    Versions, signatures, bodies and errors.
    """

    def test_versions(self) -> None:
        """
        Whatever is no route is answered 426, by which clients find the version that there is.
        """
        for path in (
            "/minio/admin/v1/list-users",
            "/minio/admin/v2/list-users",
            "/minio/admin/v4/list-users",
            "/minio/admin/v3/no-such-call",
            "/minio/admin/v3/",
            "/minio/admin/",
            "/minio/kms/v1/no-such-call",
            "/minio/kms/v2/status",
        ):
            told = json.loads(self.send("GET", path, status=426).body)
            self.assertEqual(told["Code"], "XMinioAdminVersionMismatch")
            self.assertEqual((told["RequestId"], told["HostId"]), ("", ""))
            self.assertEqual(told["Resource"], path)

    def test_wrong_method(self) -> None:
        """
        A known path with another method is no route.
        """
        self.send("POST", "list-users", status=426)
        self.send("GET", "add-user?accessKey=somebody", status=426)

    def test_escaped_path(self) -> None:
        """
        A path that is spelled otherwise is no route, so that no proxy takes it for another.
        """
        self.send("GET", ADMIN + "list%2Dusers", status=426)
        self.send("GET", ADMIN + "//list-users", status=426)

    def test_unsigned(self) -> None:
        """
        No route answers somebody who does not sign, whether or not they tell a digest.
        """
        for route in ROUTES:
            for lines in ([("x-amz-content-sha256", _EMPTY)], []):
                with self.subTest(route=route.path, lines=lines):
                    path = route.path.replace("*", "builtin")
                    answer = self.plainly(route.method, path, lines)
                    self.assertEqual(answer.status, 403, answer.body)
                    self.refused(answer, "AccessDenied")

    def test_nobody_may_anything(self) -> None:
        """
        A user without policies gets nothing done, but asks about itself and its own keys.
        """
        user = self.make_user("somebody")
        free = {
            "accountinfo",
            "list-access-keys-bulk",
            "list-service-accounts",
            "idp/ldap/add-service-account",  # which has a refusal of its own
        }
        for route in ROUTES:
            operation = route.path.removeprefix(ADMIN)
            if operation in free or not route.offered:
                continue
            with self.subTest(route=route.path):
                query = (
                    "?accessKey=other&group=g&name=n&bucket=b&user=other&key-id=k&pattern=%2A"
                    "&status=enabled&userOrGroup=other&action=stop&listType=all&all=true"
                )
                body = b'{"group":"g","members":["somebody"]}'
                content = body if route.method in ("PUT", "POST") else b""
                path = route.path.replace("*", "builtin") + query
                self.done(self.accounts.set_user("other", "other-secret"))
                answer = self.send(
                    route.method, path, content, by=user, status=self._status(route.path)
                )
                if answer.status == 403:
                    self.refused(answer, "AccessDenied")
        self.assertEqual(self.services, [])

    def _status(self, path: str) -> int:
        """
        What such a request gets: there is nothing that most of the calls about access keys
        could be about.
        """
        unknown = (
            "update-service-account",
            "delete-service-account",
            "info-service-account",
            "info-access-key",
            "temporary-account-info",
        )
        if path.endswith(unknown):
            return 404
        return 400 if path.endswith("add-service-account") else 403

    def test_wrong_secret(self) -> None:
        """
        Who signs with another secret key is refused.
        """
        answer = self.send("GET", "list-users", by=Signer(ROOT.access_key, "no-secret"), status=403)
        self.refused(answer, "SignatureDoesNotMatch")

    def test_unknown_user(self) -> None:
        """
        Who is not known is refused.
        """
        answer = self.send("GET", "list-users", by=Signer("nobody", "no-secret"), status=403)
        self.refused(answer, "InvalidAccessKeyId")

    def test_disabled_user(self) -> None:
        """
        Who is disabled is told so.
        """
        user = self.make_user("somebody", policy("admin:*"))
        self.send("GET", "list-users", by=user)
        self.send("PUT", "set-user-status?accessKey=somebody&status=disabled")
        answer = self.send("GET", "list-users", by=user, status=403)
        self.assertIn("disabled", self.refused(answer, "InvalidAccessKeyId"))

    def test_other_signatures(self) -> None:
        """
        Any region will do; another service, a signature in the query, or one of version 2 will not.
        """
        path = ADMIN + "info"
        credentials = Credentials(ROOT.access_key, ROOT.secret_key)
        for auth, status, code in (
            (S3SigV4Auth(credentials, "s3", "mars-north-1"), 200, ""),
            (S3SigV4Auth(credentials, "sts", "us-east-1"), 400, "AuthorizationHeaderMalformed"),
            (S3SigV4QueryAuth(credentials, "s3", "us-east-1"), 403, "AccessDenied"),
            (HmacV1Auth(credentials), 400, "InvalidRequest"),
        ):
            with self.subTest(auth=type(auth).__name__, code=code):
                headers = {"X-Amz-Content-SHA256": _EMPTY}
                request = AWSRequest("GET", "http://kypello.test" + path, headers)
                request.auth_path = None
                auth.add_auth(request)
                lines = [(name, str(value)) for name, value in request.headers.items()]
                target = str(request.url).removeprefix("http://kypello.test")
                answer = self.plainly("GET", target, lines)
                self.assertEqual(answer.status, status, answer.body)
                if code:
                    self.refused(answer, code)

    def test_late_request(self) -> None:
        """
        A request that is sent again a quarter of an hour later is refused.
        """
        self.clock.advance(16 * 60)
        answer = self.send("GET", "list-users", status=403)
        self.refused(answer, "RequestTimeTooSkewed")

    def test_another_body(self) -> None:
        """
        A body that is not the one that was signed is refused, and nothing is done.
        """
        document = policy("s3:GetObject")
        answer = self.send(
            "PUT", "add-canned-policy?name=p", document, sent=document + b" ", status=400
        )
        self.refused(answer, "XAmzContentSHA256Mismatch")
        self.send("GET", "info-canned-policy?name=p", status=404)

    def test_another_query(self) -> None:
        """
        A payload that somebody has seen cannot be sent for another user.
        """
        self.make_user("somebody")
        path = ADMIN + "set-user-status?status=disabled&accessKey="
        lines = self.signed("PUT", path + "somebody")
        answer = self.plainly("PUT", path + "other", lines, b"")
        self.assertEqual(answer.status, 403)
        self.refused(answer, "SignatureDoesNotMatch")

    def test_body_without_digest(self) -> None:
        """
        A body that no signature covers is refused.
        """
        path = ADMIN + "list-users"
        lines = [
            (name, "UNSIGNED-PAYLOAD" if value == _EMPTY else value)
            for name, value in self.signed("GET", path)
        ]
        answer = self.plainly("GET", path, lines)
        self.assertEqual(answer.status, 400)
        self.refused(answer, "InvalidRequest")

    def test_large_bodies(self) -> None:
        """
        A body beyond what a route takes is refused without being read.
        """
        answer = self.send("PUT", "update-group-members", bytes(MAX_DOCUMENT + 1), status=400)
        self.refused(answer, "EntityTooLarge")
        answer = self.send("PUT", "add-user?accessKey=somebody", bytes(MAX_PAYLOAD + 1), status=400)
        self.refused(answer, "XMinioAdminConfigTooLarge")

    def test_payload_of_another(self) -> None:
        """
        A payload that was encrypted with another secret key, or tampered with, is refused.
        """
        for body in (b"", b"no payload", bytes(200), b"{}"):
            answer = self.send("PUT", "add-user?accessKey=somebody", body, status=400)
            self.refused(answer, "XMinioAdminConfigBadJSON")
        self.send("GET", "user-info?accessKey=somebody", status=404)

    def test_log(self) -> None:
        """
        The log tells who has changed what, without secrets; not who has only looked.
        """
        seen: list[LogEvent] = []
        globalLogPublisher.addObserver(seen.append)
        self.addCleanup(globalLogPublisher.removeObserver, seen.append)
        wanted = {"secretKey": "hidden-secret", "status": "enabled"}
        self.sealed("PUT", "add-user?accessKey=some%0Abody", wanted, status=400)
        self.sealed("PUT", "add-user?accessKey=somebody", wanted)
        self.told_secretly("list-users")
        lines = [formatEvent(event) for event in seen]
        (line,) = [line for line in lines if "admin:" in line]
        self.assertRegex(line, "^[0-9A-F]{16} admin:add-user 'somebody' by 'root-user'$")
        self.assertNotIn("hidden-secret", "".join(lines))

    def test_query_that_is_no_text(self) -> None:
        """
        A query that is no UTF-8 is refused, after its signature was checked.
        """
        answer = self.send("GET", "user-info?accessKey=%FF", status=400)
        self.refused(answer, "InvalidURI")

    def test_kms_away(self) -> None:
        """
        Without the KMS, what it seals cannot be told: clients are asked to come back.
        """
        user = self.make_user("somebody", policy("admin:*"))
        self.clock.advance(600)
        self.kms.down = True
        answer = self.send("GET", "user-info?accessKey=somebody", status=503)
        self.refused(answer, "ServiceUnavailable")
        self.assertIsNotNone(answer.header("Retry-After"))
        self.assertNotIn(user.secret_key.encode(), answer.body)
        self.send("GET", "info")
