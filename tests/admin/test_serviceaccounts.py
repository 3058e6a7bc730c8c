# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of service accounts, by the administration API.
"""

import json
from typing import Any

from kypello.model import Question
from kypello.testing.harness import Answer
from tests.admin.front import ROOT, AdminCase, Signer, policy

_READING = json.loads(policy("s3:GetObject"))


class ServiceAccountTests(AdminCase):
    """
    Service accounts are made, seen, changed and removed.
    """

    def setUp(self) -> None:
        """
        Have two users.
        """
        super().setUp()
        self.user = self.make_user("somebody", policy("s3:*"))
        self.other = self.make_user("other", policy("s3:*"))

    def may(self, signer: Signer, action: str) -> bool:
        """
        Whether somebody may do something to an object.
        """
        identity = self.done(self.accounts.identity(signer.access_key))
        allowed = self.accounts.allows(identity, Question(action, "bucket/key"), {})
        return bool(self.done(allowed))

    def update(self, key: Signer, by: Signer, status: int = 204, **members: Any) -> Answer:
        """
        Change a service account.
        """
        call = f"update-service-account?accessKey={key.access_key}"
        return self.sealed("POST", call, members, by=by, status=status)

    def info(self, key: Signer, by: Signer) -> dict[str, Any]:
        """
        Ask about a service account.
        """
        told: dict[str, Any] = self.told_secretly(
            f"info-service-account?accessKey={key.access_key}", by=by
        )
        return told

    def test_life(self) -> None:
        """
        A user makes a service account, sees it, changes it and removes it.
        """
        key = self.make_key(self.user)
        self.assertRegex(key.access_key, "^[A-Z0-9]{20}$")
        self.assertEqual(len(key.secret_key), 40)
        self.assertTrue(self.may(key, "s3:PutObject"))
        told = self.info(key, self.user)
        self.assertEqual(told["parentUser"], "somebody")
        self.assertEqual((told["accountStatus"], told["impliedPolicy"]), ("on", True))
        self.assertNotIn("expiration", told)
        changes = {"newName": "robot", "newDescription": "that works", "newPolicy": _READING}
        self.update(key, self.user, **changes)
        told = self.info(key, self.user)
        self.assertEqual((told["name"], told["description"]), ("robot", "that works"))
        self.assertEqual((told["impliedPolicy"], json.loads(told["policy"])), (False, _READING))
        self.assertFalse(self.may(key, "s3:PutObject"))
        self.update(key, self.user, newStatus="off")
        self.assertEqual(self.info(key, self.user)["accountStatus"], "off")
        self.update(key, self.user, newStatus="on", newSecretKey="another-secret", newPolicy={})
        renewed = Signer(key.access_key, "another-secret")
        self.send("GET", "list-service-accounts", by=renewed)
        self.assertTrue(self.may(key, "s3:PutObject"))
        call = f"delete-service-account?accessKey={key.access_key}"
        answer = self.send("DELETE", call, by=self.user, status=204)
        self.assertEqual(answer.body, b"")
        answer = self.send("DELETE", call, by=self.user, status=404)
        self.refused(answer, "XMinioInvalidIAMCredentials")

    def test_changes_leave_the_rest(self) -> None:
        """
        A change leaves what it does not name as it is: the policy most of all.
        """
        key = self.make_key(self.user, policy=_READING, name="robot", description="that works")
        before = self.info(key, self.user)
        for member, text in (
            ("newSecretKey", "another-secret"),
            ("newStatus", "on"),
            ("newName", "robot"),
            ("newDescription", "that works"),
            ("newPolicy", None),
            ("newExpiration", None),
            ("newPolicy", _READING),
        ):
            with self.subTest(member=member):
                self.update(key, self.user, **{member: text})
                self.assertEqual(self.info(key, self.user), before)
                self.assertFalse(self.may(key, "s3:PutObject"))

    def test_list(self) -> None:
        """
        A list tells those of one user, with when they expire.
        """
        self.make_key(self.user, accessKey="first-key", secretKey="some-secret", name="robot")
        self.make_key(self.other)
        (told,) = self.told_secretly("list-service-accounts?user=somebody")["accounts"]
        self.assertEqual(
            told,
            {
                "parentUser": "somebody",
                "accountStatus": "on",
                "impliedPolicy": True,
                "accessKey": "first-key",
                "name": "robot",
                "expiration": "1970-01-01T00:00:00Z",
            },
        )

    def test_expiry(self) -> None:
        """
        When it expires is as it was asked for, and never for each way to say that.
        """
        for text in (None, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", ""):
            answer = self.sealed("PUT", "add-service-account", {"expiration": text}, by=self.user)
            told = self.opened(answer, self.user)["credentials"]
            self.assertEqual(told["expiration"], "1970-01-01T00:00:00Z")
        for text, status in (
            ("2026-01-01T00:00:00Z", 400),
            ("2100-01-01T00:00:00Z", 400),
            ("2026-01-01", 400),
            ("tomorrow", 400),
        ):
            self.sealed(
                "PUT", "add-service-account", {"expiration": text}, by=self.user, status=status
            )

    def test_refused(self) -> None:
        """
        Halves of a pair, keys that are taken, names and policies that cannot be are refused.
        """
        large = {**_READING, "Id": "x" * 2100}
        for wanted, status, code in (
            ({"accessKey": "some-key"}, 400, "XMinioAdminNoSecretKey"),
            ({"secretKey": "some-secret"}, 400, "XMinioAdminNoAccessKey"),
            ({"name": "9 lives"}, 400, "XMinioInvalidResource"),
            ({"description": "x" * 257}, 400, "XMinioInvalidResource"),
            ({"policy": large}, 400, "XMinioIAMServiceAccountSessionPolicyTooLarge"),
            ({"policy": {"Version": "2000"}}, 400, "XMinioMalformedIAMPolicy"),
            ({"policy": ["no policy"]}, 400, "XMinioMalformedIAMPolicy"),
            ({"targetUser": "nobody"}, 404, "XMinioAdminNoSuchUser"),
            (
                {"accessKey": "other", "secretKey": "some-secret"},
                400,
                "XMinioIAMServiceAccountNotAllowed",
            ),
            (
                {"accessKey": "root-user", "secretKey": "some-secret"},
                403,
                "XMinioInvalidIAMCredentials",
            ),
            ([], 400, "XMinioAdminConfigBadJSON"),
        ):
            with self.subTest(wanted=wanted):
                answer = self.sealed("PUT", "add-service-account", wanted, status=status)
                self.refused(answer, code)
        key = self.make_key(self.user)
        answer = self.update(key, self.user, 400, newStatus="perhaps")
        self.refused(answer, "XMinioAdminInvalidArgument")

    def test_no_statements(self) -> None:
        """
        A policy without statements allows nothing; one that says nothing limits nothing.
        """
        nothing = {"Version": "2012-10-17", "Statement": []}
        self.assertFalse(self.may(self.make_key(self.user, policy=nothing), "s3:GetObject"))
        for policy_text in ({}, None, ""):
            key = self.make_key(self.user, policy=policy_text)
            self.assertTrue(self.may(key, "s3:GetObject"))

    def test_others(self) -> None:
        """
        Without a right of administration, those of others cannot be made, seen, changed or
        removed.
        """
        key = self.make_key(self.other)
        wanted = {"targetUser": "other"}
        self.sealed("PUT", "add-service-account", wanted, by=self.user, status=403)
        self.update(key, self.user, 403, newStatus="off")
        for method, call in (
            ("GET", f"info-service-account?accessKey={key.access_key}"),
            ("GET", f"info-access-key?accessKey={key.access_key}"),
            ("DELETE", f"delete-service-account?accessKey={key.access_key}"),
            ("GET", "list-service-accounts?user=other"),
            ("GET", "list-access-keys-bulk?listType=all&users=other"),
            ("GET", "list-access-keys-bulk?listType=all&all=true"),
            ("POST", "revoke-tokens/builtin?user=other&fullRevoke=true"),
        ):
            answer = self.send(method, call, by=self.user, status=403)
            self.refused(answer, "AccessDenied")
        boss = self.make_user("boss", policy("admin:*"))
        self.update(key, boss, newStatus="off")
        self.opened(self.sealed("PUT", "add-service-account", wanted, by=boss), boss)

    def test_root(self) -> None:
        """
        Nobody but the root user makes, changes or removes its service accounts.
        """
        boss = self.make_user("boss", policy("admin:*"))
        key = self.make_key(ROOT)
        self.sealed("PUT", "add-service-account", {"targetUser": "root-user"}, by=boss, status=403)
        self.update(key, boss, 403, newSecretKey="another-secret")
        call = f"delete-service-account?accessKey={key.access_key}"
        self.send("DELETE", call, by=boss, status=403)
        self.send(
            "POST", "revoke-tokens/builtin?user=root-user&fullRevoke=true", by=boss, status=403
        )
        self.send("DELETE", call, status=204)

    def test_denied(self) -> None:
        """
        A statement that denies it keeps users from having service accounts.
        """
        denied = policy("admin:CreateServiceAccount", effect="Deny")
        user = self.make_user("third", denied)
        self.sealed("PUT", "add-service-account", {}, by=user, status=403)

    def test_limited_becomes_no_wider(self) -> None:
        """
        What is limited by a policy changes neither its own policy nor those of its user's other
        service accounts, and what it makes is limited alike.
        """
        boss = self.make_user("boss", policy("admin:*"), policy("s3:*"))
        limits = json.loads(policy("admin:CreateServiceAccount", "admin:UpdateServiceAccount"))
        limited = self.make_key(boss, policy=limits)
        sibling = self.make_key(boss, policy=_READING)
        for target in (limited, sibling):
            self.update(target, limited, 403, newPolicy={})
            self.update(target, limited, 403, newSecretKey="another-secret")
        made = self.make_key(limited)
        self.assertEqual(json.loads(self.info(made, boss)["policy"]), limits)
        wider = json.loads(policy("admin:*"))
        self.sealed("PUT", "add-service-account", {"policy": wider}, by=limited, status=403)

    def test_limit_has_to_allow(self) -> None:
        """
        What a limit does not allow, a service account does not do to its own user either.
        """
        limited = self.make_key(self.user, policy=_READING)
        self.sealed("PUT", "add-service-account", {}, by=limited, status=403)
        for method, call in (
            ("GET", "list-service-accounts"),
            ("GET", "user-info?accessKey=somebody"),
            ("GET", f"info-service-account?accessKey={limited.access_key}"),
            ("DELETE", f"delete-service-account?accessKey={limited.access_key}"),
        ):
            self.send(method, call, by=limited, status=403)

    def test_unlimited(self) -> None:
        """
        What acts for a user without limits makes further ones for the same user.
        """
        key = self.make_key(self.make_key(self.user))
        self.assertEqual(self.info(key, self.user)["parentUser"], "somebody")
        self.assertTrue(self.may(key, "s3:PutObject"))

    def test_child_of_a_key(self) -> None:
        """
        A service account has none of its own.
        """
        key = self.make_key(self.user)
        answer = self.sealed(
            "PUT", "add-service-account", {"targetUser": key.access_key}, status=400
        )
        self.refused(answer, "XMinioIAMServiceAccountNotAllowed")
