# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.sts``: how calls are read and answered, and sessions of users.
"""

from functools import partial
from urllib.parse import urlencode

from twisted.internet.defer import Deferred

from kypello.model import Identity, Kind
from kypello.s3.browsers import tell_page
from kypello.s3.cors import default_rules
from kypello.testing.harness import Answer
from tests.sts.front import ROOT, STSCase, form, signed

USER = Identity("somebody", "secret-of-somebody", Kind.USER, user="somebody")
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


class AnswerTests(STSCase):
    """
    What calls and answers look like.
    """

    async def test_session(self) -> None:
        """
        An answer has what clients read, in the order that they have always seen.
        """
        answer = await self.assume_role()
        self.assertEqual(answer.header("Cache-Control"), "no-store")
        result = self.granted(answer, "AssumeRole")
        self.assertEqual([one.tag for one in result], ["AssumedRoleUser", "Credentials"])
        self.assertEqual(
            [one.tag for one in result.iter()][1:],
            [
                "AssumedRoleUser",
                "Arn",
                "AssumeRoleId",
                "Credentials",
                "AccessKeyId",
                "SecretAccessKey",
                "SessionToken",
                "Expiration",
            ],
        )

    async def test_pages(self) -> None:
        """
        Pages may see answers, errors as well, as far as the server is told to let them.
        """
        page = ("Origin", "https://app.example.com")
        self.serve(tell_page=partial(tell_page, rules=default_rules(("https://*.example.com",))))
        body = form("AssumeRole")
        for lines, status in (
            (signed(body, ROOT.access_key, ROOT.secret_key), 200),
            (signed(body, ROOT.access_key, "other"), 403),
        ):
            answer = await self.harness.request("POST", "/", [*lines, page], body)
            self.assertEqual(answer.status, status, answer.body)
            self.assertEqual(answer.header("Access-Control-Allow-Origin"), page[1])
            self.assertIsNone(answer.header("Access-Control-Allow-Credentials"))
            other = ("Origin", "https://other.org")
            answer = await self.harness.request("POST", "/", [*lines, other], body)
            self.assertIsNone(answer.header("Access-Control-Allow-Origin"))

    async def test_version(self) -> None:
        """
        Other versions, and none, are refused.
        """
        for body in (b"Action=AssumeRole", b"Action=AssumeRole&Version=2010-01-01"):
            answer = await self.harness.request("POST", "/", [_FORM], body)
            message = self.refused(answer, 400, "MissingParameter")
            self.assertIn("Invalid STS API version", message)
            self.assertIn("expecting 2011-06-15", message)

    async def test_unknown_action(self) -> None:
        """
        An unknown action is told, whatever its name holds.
        """
        answer = await self.call("Assume<Role>\x01&")
        message = self.refused(answer, 400, "InvalidParameterValue")
        self.assertEqual(message, "Unsupported action Assume<Role>&")

    async def test_disabled(self) -> None:
        """
        What is not configured is disabled.
        """
        for action, fields in (
            ("AssumeRoleWithCertificate", {}),
            ("AssumeRoleWithCustomToken", {"Token": "t"}),
            ("AssumeRoleWithLDAPIdentity", {"LDAPUsername": "u", "LDAPPassword": "p"}),
        ):
            for query in (True, False):
                answer = await self.call(action, fields, query=query)
                message = self.refused(answer, 503, "STSNotInitialized")
                self.assertEqual(message, f"STS API '{action}' is disabled")

    async def test_no_provider(self) -> None:
        """
        Without a provider no role exists.
        """
        for action, name in (
            ("AssumeRoleWithWebIdentity", "WebIdentityToken"),
            ("AssumeRoleWithClientGrants", "Token"),
        ):
            answer = await self.call(action, {name: "t"})
            message = self.refused(answer, 400, "InvalidParameterValue")
            self.assertEqual(message, "Role arn:minio:iam:::role/dummy-internal does not exist")

    async def test_twice(self) -> None:
        """
        A field that stands twice is refused, also when one is in the query.
        """
        body = form("AssumeRoleWithWebIdentity", {"WebIdentityToken": "t"})
        for target, content in (("/?Policy=a&Policy=b", b""), ("/?Action=AssumeRole", body)):
            answer = await self.harness.request("POST", target, [_FORM], content)
            self.refused(answer, 400, "InvalidParameterValue")

    async def test_no_form(self) -> None:
        """
        What is no form of a bounded size in UTF-8 is refused.
        """
        good = form("AssumeRole")
        for body, content_type in (
            (good, "multipart/form-data; boundary=x"),
            (good + b"&Policy=%ff", "application/x-www-form-urlencoded"),
            (good + b"&Policy=\xc3\xa9", "application/x-www-form-urlencoded"),
            (b"&".join(b"a%d=" % number for number in range(65)), _FORM[1]),
            (good + b"&Policy=" + b"x" * 65536, "application/x-www-form-urlencoded"),
        ):
            answer = await self.harness.request("POST", "/", [("Content-Type", content_type)], body)
            self.refused(answer, 400, "InvalidParameterValue")


class AssumeRoleTests(STSCase):
    """
    Sessions of those who have signed.
    """

    async def make_user(self) -> None:
        """
        Make a user.
        """
        await self.accounts.set_user(USER.access_key, USER.secret_key)

    async def test_root(self) -> None:
        """
        A session of the root user acts in its name, for an hour.
        """
        identity, expires = await self.session(await self.assume_role(), "AssumeRole")
        self.assertEqual((identity.user, identity.kind), (ROOT.access_key, Kind.SESSION))
        self.assertEqual(expires, self.clock.seconds() + 3600)
        self.assertEqual(len(identity.access_key), 20)
        self.assertEqual(len(identity.secret_key), 40)

    async def test_user(self) -> None:
        """
        A session of a user acts in their name.
        """
        await self.make_user()
        answer = await self.assume_role(signer=USER)
        identity, _expires = await self.session(answer, "AssumeRole")
        self.assertEqual((identity.user, identity.kind), ("somebody", Kind.SESSION))

    async def test_disabled_user(self) -> None:
        """
        A disabled user gets none.
        """
        await self.make_user()
        await self.accounts.set_user_enabled(USER.access_key, False)
        message = self.refused(await self.assume_role(signer=USER), 403, "AccessDenied")
        self.assertIn("disabled", message)

    async def test_session_of_session(self) -> None:
        """
        A session cannot make another.
        """
        identity, _expires = await self.session(await self.assume_role(), "AssumeRole")
        answer = await self.assume_role(signer=identity)
        self.assertEqual(self.refused(answer, 403, "AccessDenied"), "Access Denied.")

    async def test_signature(self) -> None:
        """
        Nobody without a signature gets one, nor with a false one, an unknown key, the signature
        for another service, or over another body.
        """
        for answer in (
            await self.call("AssumeRole"),
            await self.assume_role(signer=Identity(ROOT.access_key, "another-secret")),
            await self.assume_role(signer=Identity("nobody", "another-secret")),
            await self.assume_role(service="s3"),
        ):
            self.refused(answer, 403, "AccessDenied")
        lines = signed(form("AssumeRole"), ROOT.access_key, ROOT.secret_key)
        longer = form("AssumeRole", {"DurationSeconds": "31536000"})
        answer = await self.harness.request("POST", "/", lines, longer)
        self.refused(answer, 403, "AccessDenied")

    async def test_stated_digest(self) -> None:
        """
        A digest that is stated must be that of the body.
        """
        body = form("AssumeRole")
        lines = signed(body, ROOT.access_key, ROOT.secret_key)
        for stated in ("UNSIGNED-PAYLOAD", "ab" * 32):
            answer = await self.harness.request(
                "POST", "/", [*lines, ("x-amz-content-sha256", stated)], body
            )
            self.refused(answer, 403, "AccessDenied")

    async def test_query_is_signed(self) -> None:
        """
        What is added to the query of a signed call is refused.
        """
        body = form("AssumeRole")
        lines = signed(body, ROOT.access_key, ROOT.secret_key)
        added = urlencode({"DurationSeconds": "31536000"})
        answer = await self.harness.request("POST", f"/?{added}", lines, body)
        self.refused(answer, 403, "AccessDenied")

    async def test_duration(self) -> None:
        """
        A session lasts as long as is asked for, between 15 minutes and a year.
        """
        for seconds in ("900", "31536000"):
            answer = await self.assume_role({"DurationSeconds": seconds})
            _identity, expires = await self.session(answer, "AssumeRole")
            self.assertEqual(expires, self.clock.seconds() + int(seconds))
        for seconds in ("899", "31536001", "1e4", "-900", "\u0661" * 4, "9" * 5000):
            answer = await self.assume_role({"DurationSeconds": seconds})
            message = self.refused(answer, 400, "InvalidParameterValue")
            self.assertEqual(message, "invalid token expiry")

    async def test_configured_duration(self) -> None:
        """
        A duration that is configured counts for all.
        """
        self.serve(duration=7200)
        answer = await self.assume_role({"DurationSeconds": "900"})
        _identity, expires = await self.session(answer, "AssumeRole")
        self.assertEqual(expires, self.clock.seconds() + 7200)

    async def test_revoke_type(self) -> None:
        """
        Sessions can be told apart when they are revoked.
        """
        fields = {"TokenRevokeType": "laptop"}
        one, _ = await self.session(await self.assume_role(fields), "AssumeRole")
        other, _ = await self.session(await self.assume_role(), "AssumeRole")
        await self.accounts.revoke(ROOT.access_key, "builtin", "laptop")
        self.assertIsNone(await self.accounts.identity(one.access_key))
        self.assertIsNotNone(await self.accounts.identity(other.access_key))
        answer = await self.assume_role({"TokenRevokeType": "x" * 129})
        self.refused(answer, 400, "InvalidParameterValue")

    async def test_client_gone(self) -> None:
        """
        A client that goes away before its form is complete leaves nothing behind.
        """
        client = self.harness.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nAction=")
        client.go_away()
        self.assertEqual(client.received, b"")
        self.assertEqual(await self.accounts.keys(), [])
        later: Deferred[Answer] = Deferred.fromCoroutine(self.assume_role())
        self.assertEqual((await later).status, 200)
