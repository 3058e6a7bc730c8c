# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.sts``: sessions of those who have a token of an OpenID provider.
"""

import json
from collections.abc import Mapping

from attrs import evolve
from twisted.internet.task import Clock

from kypello.iam.openid import OpenID, parent_of
from kypello.identityconfig import OpenIDSettings
from kypello.model import Identity, Kind, Question
from kypello.policy.document import parse_policy
from kypello.testing.harness import Answer
from tests.iam.issuer import CLIENT, ISSUER, Issuer
from tests.sts.front import STSCase

WEB, GRANTS = "AssumeRoleWithWebIdentity", "AssumeRoleWithClientGrants"
SETTINGS = OpenIDSettings("", f"{ISSUER}/.well-known/openid-configuration", CLIENT)


def allow(action: str, effect: str = "Allow", **members: object) -> bytes:
    """
    A policy of one statement.
    """
    statement = {"Effect": effect, "Action": [action], "Resource": ["*"], **members}
    if action.startswith("s3:"):
        statement["Resource"] = ["arn:aws:s3:::*"]
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()


class WebIdentityCase(STSCase):
    """
    A test with one provider.
    """

    def setUp(self) -> None:
        """
        Trust it.
        """
        self.issuer = Issuer()
        self.trust(SETTINGS)

    def trust(self, *settings: OpenIDSettings, **options: object) -> None:
        """
        Trust others instead.
        """
        self.serve(**options)
        openid = OpenID.make(self.clock, self.issuer.get, settings)
        self.serve_with(openid)

    def serve_with(self, openid: OpenID) -> None:
        """
        Let the front ask these providers.
        """
        self.front = evolve(self.front, web_identities=openid)
        self.listen()

    def token(self, **claims: object) -> str:
        """
        A token of now.
        """
        return self.issuer.token(self.clock.seconds(), **claims)

    async def web(
        self, fields: Mapping[str, str] | None = None, *, query: bool = False, **claims: object
    ) -> Answer:
        """
        Ask for a session with a token.
        """
        told = {"WebIdentityToken": self.token(**claims), **(fields or {})}
        return await self.call(WEB, told, query=query)

    async def may(self, identity: Identity, action: str) -> bool:
        """
        Whether a session may do something in a bucket.
        """
        return await self.accounts.allows(identity, Question(action, "bucket/key"), {})


class SessionTests(WebIdentityCase):
    """
    What a token gets.
    """

    async def test_session(self) -> None:
        """
        A token gets a session with the policies that it names, until it ends.
        """
        for query in (False, True):
            answer = await self.web(query=query, exp=self.clock.seconds() + 1800)
            identity, expires = await self.session(answer, WEB)
            self.assertEqual(identity.kind, Kind.SESSION)
            self.assertEqual(identity.user, parent_of("alice", ISSUER))
            self.assertEqual(expires, self.clock.seconds() + 1800)
            self.assertTrue(await self.may(identity, "s3:PutObject"))
            self.assertFalse(await self.may(identity, "admin:ServerInfo"))
            result = self.granted(answer, WEB)
            self.assertEqual(
                [one.tag for one in result],
                ["AssumedRoleUser", "Credentials", "SubjectFromWebIdentityToken"],
            )
            self.assertEqual(result.findtext("SubjectFromWebIdentityToken"), "alice")

    async def test_client_grants(self) -> None:
        """
        The older name does the same.
        """
        answer = await self.call(GRANTS, {"Token": self.token()})
        await self.session(answer, GRANTS)
        self.assertEqual(self.granted(answer, GRANTS).findtext("SubjectFromToken"), "alice")

    async def test_shorter(self) -> None:
        """
        A session may be shorter than its token, and never outlives it.
        """
        now = self.clock.seconds()
        for asked, lasts in (("900", 900), ("86400", 3600)):
            answer = await self.web({"DurationSeconds": asked})
            _identity, expires = await self.session(answer, WEB)
            self.assertEqual(expires, now + lasts)

    async def test_configured_duration(self) -> None:
        """
        A configured duration counts, but for the end of the token.
        """
        self.trust(SETTINGS, duration=1000)
        _identity, expires = await self.session(await self.web(), WEB)
        self.assertEqual(expires, self.clock.seconds() + 1000)
        answer = await self.web(exp=int(self.clock.seconds()) + 60)
        _identity, expires = await self.session(answer, WEB)
        self.assertEqual(expires, self.clock.seconds() + 60)

    async def test_session_policy(self) -> None:
        """
        A session policy narrows what the token gives.
        """
        answer = await self.web({"Policy": allow("s3:GetObject").decode()})
        identity, _expires = await self.session(answer, WEB)
        self.assertTrue(await self.may(identity, "s3:GetObject"))
        self.assertFalse(await self.may(identity, "s3:PutObject"))
        answer = await self.web({"Policy": allow("admin:*").decode()})
        identity, _expires = await self.session(answer, WEB)
        self.assertFalse(await self.may(identity, "admin:ServerInfo"))
        self.assertFalse(await self.may(identity, "s3:GetObject"))

    async def test_bad_session_policy(self) -> None:
        """
        What is no session policy is told.
        """
        for policy, reason in (
            ("{", ""),
            ('{"Statement":[]}', "Version cannot be empty expecting '2012-10-17'"),
            (
                allow("s3:GetObject", Sid="x" * 2048).decode(),
                "Session policy should not exceed 2048 characters",
            ),
        ):
            message = self.refused(await self.web({"Policy": policy}), 400, "InvalidParameterValue")
            self.assertIn(reason, message)

    async def test_bound_per_session(self) -> None:
        """
        A later login with other policies leaves an earlier session as it is.
        """
        first, _ = await self.session(await self.web(policy="readonly"), WEB)
        await self.session(await self.web(policy="consoleAdmin"), WEB)
        self.assertFalse(await self.may(first, "s3:PutObject"))
        self.assertFalse(await self.may(first, "admin:ServerInfo"))

    async def test_claims(self) -> None:
        """
        Policies can ask for what the token says.
        """
        condition = {"StringEquals": {"jwt:groups": ["staff"]}}
        policy = parse_policy(allow("s3:GetObject", Condition=condition))
        await self.accounts.put_policy("staff", policy)
        for groups, allowed in ((["staff", "x"], True), (["x"], False), (None, False)):
            answer = await self.web(policy="staff", groups=groups)
            identity, _expires = await self.session(answer, WEB)
            self.assertIs(await self.may(identity, "s3:GetObject"), allowed)

    async def test_role(self) -> None:
        """
        A role gives its policies to everybody whom the provider knows.
        """
        settings = evolve(SETTINGS, role_policies=("readonly",))
        self.trust(settings)
        answer = await self.web({"RoleArn": settings.role}, policy="consoleAdmin")
        identity, _expires = await self.session(answer, WEB)
        self.assertTrue(await self.may(identity, "s3:GetObject"))
        self.assertFalse(await self.may(identity, "s3:PutObject"))


class RefusedTests(WebIdentityCase):
    """
    What gets no session.
    """

    async def test_missing_token(self) -> None:
        """
        A missing token is told.
        """
        for fields in ({}, {"WebIdentityToken": ""}):
            self.refused(await self.call(WEB, fields), 400, "MissingParameter")

    async def test_unknown_policies(self) -> None:
        """
        A token whose policies do not exist gets nothing; if one of them does, it gets that.
        """
        answer = await self.web(policy=["nothing", "other"])
        self.assertEqual(
            self.refused(answer, 400, "InvalidParameterValue"),
            "None of the given policies (`nothing,other`) are defined, credentials will not be"
            " generated",
        )
        await self.session(await self.web(policy="nothing,readonly"), WEB)
        answer = await self.web(policy=None)
        self.assertIn("policy claim missing", self.refused(answer, 400, "InvalidParameterValue"))

    async def test_bad_tokens(self) -> None:
        """
        What is wrong with a token is told, and not more.
        """
        self.refused(await self.web(exp=int(self.clock.seconds()) - 1), 400, "ExpiredToken")
        answer = await self.web(aud="another")
        self.refused(answer, 400, "InvalidParameterValue")
        answer = await self.call(WEB, {"WebIdentityToken": "x.y.z"})
        self.refused(answer, 400, "InvalidParameterValue")
        self.assertEqual(await self.accounts.keys(), [])

    async def test_provider_down(self) -> None:
        """
        A provider that does not answer is told apart: to try again may help.
        """
        self.issuer.down = True
        answer = await self.web()
        self.refused(answer, 503, "IDPCommunicationError")
        self.assertEqual(answer.header("Retry-After"), "5")

    async def test_denied_duration(self) -> None:
        """
        A policy may deny sessions that are too long.
        """
        statement = allow(
            "sts:AssumeRoleWithWebIdentity",
            "Deny",
            Condition={"NumericGreaterThan": {"sts:DurationSeconds": "3000"}},
        )
        await self.accounts.put_policy("short", parse_policy(statement))
        claims = {"policy": "readonly,short"}
        for seconds in ("3000", ""):
            await self.session(await self.web({"DurationSeconds": seconds}, **claims), WEB)
        answer = await self.web({"DurationSeconds": "3001"}, **claims)
        self.refused(answer, 403, "AccessDenied")

    async def test_guessing(self) -> None:
        """
        A source whose tokens are refused again and again is slowed down, then refused untried.
        """
        clock: Clock = self.clock
        answers = [self.start_call(WEB, {"WebIdentityToken": f"x{n}.y.z"}) for n in range(60)]
        self.assertEqual(sum(one.called for one in answers), 20 + 20)
        for _ in range(20):
            clock.advance(0.5)
        self.assertEqual(sum(one.called for one in answers), 60)
        statuses = [(await one).status for one in answers]
        self.assertEqual((statuses.count(400), statuses.count(429)), (40, 20))
        answer = await answers[-1]
        self.refused(answer, 429, "Throttling")
        self.assertIsNotNone(answer.header("Retry-After"))
