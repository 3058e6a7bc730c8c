# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of sessions, and of what identity providers know, by the administration API.
"""

from typing import Any

from kypello.model import Kind
from kypello.policy.document import parse_session_policy
from tests.admin.front import AdminCase, Signer, policy


class SessionTests(AdminCase):
    """
    Sessions are told of and ended.
    """

    def setUp(self) -> None:
        """
        Have a user with a service account and two sessions, one of them limited.
        """
        super().setUp()
        self.user = self.make_user("somebody", policy("s3:*"))
        self.key = self.make_key(self.user)
        self.session = self.begin("somebody")
        limit = parse_session_policy(policy("s3:GetObject"))
        self.limited = self.begin("somebody", policy=limit, revoke_type="web")

    def begin(self, parent: str, **options: Any) -> Signer:
        """
        Make a session.
        """
        made = self.done(self.accounts.create_session(parent, duration=3600.0, **options))
        return Signer(made.access_key, made.secret_key, made.token)

    def test_sign(self) -> None:
        """
        A session signs with its token, and not without it.
        """
        self.told("accountinfo", by=self.session)
        bare = Signer(self.session.access_key, self.session.secret_key)
        self.send("GET", "accountinfo", by=bare, status=400)

    def test_payloads(self) -> None:
        """
        Payloads of a session are encrypted with its own secret key.
        """
        told = self.told_secretly("list-service-accounts", by=self.session)
        self.assertEqual([each["accessKey"] for each in told["accounts"]], [self.key.access_key])

    def test_limited(self) -> None:
        """
        A session with a policy does nothing to its user's account that the policy does not allow.
        """
        for call in ("list-service-accounts", "user-info?accessKey=somebody"):
            self.send("GET", call, by=self.limited, status=403)
        self.sealed("PUT", "add-service-account", {}, by=self.limited, status=403)

    def test_session_of_root(self) -> None:
        """
        A session of the root user that has a policy may do no more than that.
        """
        limit = parse_session_policy(policy("admin:ListUsers"))
        session = self.begin("root-user", policy=limit)
        self.told_secretly("list-users", by=session)
        self.send("GET", "info", by=session, status=403)
        self.sealed("PUT", "add-service-account", {}, by=session, status=403)

    def test_bulk(self) -> None:
        """
        A list of everything tells service accounts and sessions by user, as far as it is wanted.
        """
        told = self.told_secretly("list-access-keys-bulk?listType=all&all=true")
        self.assertEqual(set(told), {"root-user", "somebody"})
        self.assertEqual(len(told["somebody"]["serviceAccounts"]), 1)
        self.assertEqual(len(told["somebody"]["stsKeys"]), 2)
        for kind, services, sessions in (
            ("svcacc-only", True, False),
            ("sts-only", False, True),
            ("users-only", False, False),
        ):
            call = f"list-access-keys-bulk?listType={kind}&users=somebody"
            told = self.told_secretly(call)["somebody"]
            self.assertEqual(bool(told["serviceAccounts"]), services)
            self.assertEqual(bool(told["stsKeys"]), sessions)
        own = self.told_secretly("list-access-keys-bulk?listType=all", by=self.user)
        self.assertEqual(list(own), ["somebody"])
        for call, code in (
            ("list-access-keys-bulk?listType=odd", "InvalidRequest"),
            ("list-access-keys-bulk?listType=all&all=true&users=a", "XMinioAdminInvalidArgument"),
        ):
            self.refused(self.send("GET", call, status=400), code)

    def test_info(self) -> None:
        """
        What somebody acts by is told with its kind, to who may know.
        """
        for key, kind in ((self.key, "Service Account"), (self.session, "STS")):
            told = self.told_secretly(f"info-access-key?accessKey={key.access_key}", by=self.user)
            self.assertEqual(told["userType"], kind)
            self.assertEqual(told["userProvider"], "builtin")
            self.assertEqual(told["AccessKey"], key.access_key)
        call = f"temporary-account-info?accessKey={self.session.access_key}"
        self.assertEqual(self.told_secretly(call)["parentUser"], "somebody")
        call = f"temporary-account-info?accessKey={self.key.access_key}"
        self.refused(self.send("GET", call, status=404), "XMinioInvalidIAMCredentials")
        call = f"info-service-account?accessKey={self.session.access_key}"
        self.refused(self.send("GET", call, status=404), "XMinioInvalidIAMCredentials")

    def test_revoke_entry(self) -> None:
        """
        Sessions of an entry of a directory are ended by any spelling of its name.
        """
        session = self.begin("uid=alice,dc=example", provider="ldap")
        call = "revoke-tokens/ldap?user=UID%3DAlice%2C%20DC%3DExample&fullRevoke=true"
        self.send("POST", call, status=204)
        self.assertIsNone(self.done(self.accounts.identity(session.access_key)))

    def test_revoke(self) -> None:
        """
        Sessions of one type end, or all of them; service accounts stay.
        """
        call = "revoke-tokens/builtin?user=somebody"
        self.send("POST", f"{call}&tokenRevokeType=web", by=self.user, status=204)
        self.send("GET", "accountinfo", by=self.limited, status=403)
        self.send("GET", "accountinfo", by=self.session)
        self.send("POST", f"{call}&fullRevoke=true&tokenRevokeType=", status=204)
        self.send("GET", "accountinfo", by=self.session, status=403)
        self.send("GET", "accountinfo", by=self.key)
        for wrong in (call, f"{call}&fullRevoke=true&tokenRevokeType=web"):
            self.refused(self.send("POST", wrong, status=400), "XMinioAdminInvalidArgument")
        wrong = "revoke-tokens/nobody?user=somebody&fullRevoke=true"
        self.refused(self.send("POST", wrong, status=400), "XMinioAdminInvalidArgument")

    def test_subject_with_the_name_of_a_user(self) -> None:
        """
        Somebody whom an identity provider knows by the name of a user sees nothing of the user's.
        """
        subject = self.begin("somebody", provider="openid", policies=["readonly"])
        told = self.told_secretly("list-service-accounts", by=subject)
        self.assertEqual(told["accounts"], [])
        call = f"info-service-account?accessKey={self.key.access_key}"
        self.send("GET", call, by=subject, status=403)
        self.send("GET", "user-info?accessKey=somebody", by=subject, status=403)
        self.send(
            "POST", "revoke-tokens/builtin?user=somebody&fullRevoke=true", by=subject, status=403
        )
        self.assertEqual(self.told_secretly(call, by=self.user)["parentUser"], "somebody")
        self.send("POST", "revoke-tokens/openid?fullRevoke=true", by=subject, status=204)
        self.send("GET", "accountinfo", by=subject, status=403)
        self.send("GET", "accountinfo", by=self.session)

    def test_service_account_of_a_subject(self) -> None:
        """
        A session of a subject makes a service account that has what the session has.
        """
        subject = self.begin("subject", provider="openid", policies=["readonly"])
        key = self.make_key(subject)
        told = self.done(self.accounts.key(key.access_key))
        self.assertEqual((told.provider, told.policies), ("openid", ("readonly",)))
        self.assertIs(told.kind, Kind.SERVICE)
        (group,) = self.told_secretly("idp/openid/list-access-keys-bulk?listType=all&all=true")
        (found,) = group["users"]
        self.assertEqual(found["minioAccessKey"], "subject")
        self.assertEqual(len(found["serviceAccounts"]), 1)

    def test_service_account_of_an_entry(self) -> None:
        """
        Who has logged in by a directory makes a service account by any spelling of the own name,
        and sees it; nobody else makes one.
        """
        name, groups = "uid=alice,dc=example", ["cn=staff,dc=example"]
        alice = self.begin(name, provider="ldap", groups=groups)
        call = "idp/ldap/add-service-account"
        answer = self.sealed("PUT", call, {"targetUser": "UID=Alice, DC=Example"}, by=alice)
        made = self.opened(answer, alice)["credentials"]["accessKey"]
        told = self.done(self.accounts.key(made))
        self.assertEqual((told.parent, told.provider), (name, "ldap"))
        self.assertEqual(list(told.groups), groups)
        answer = self.sealed("PUT", call, {"targetUser": name}, status=403)
        self.refused(answer, "XMinioIAMActionNotAllowed")
        other = {"targetUser": "uid=bob,dc=example"}
        self.sealed("PUT", call, other, by=alice, status=403)
        self.sealed("PUT", call, {"targetUser": "bob"}, by=alice, status=400)
        bulk = "idp/ldap/list-access-keys-bulk?listType=all"
        own = self.told_secretly(bulk, by=alice)
        self.assertEqual([each["accessKey"] for each in own[name]["serviceAccounts"]], [made])
        self.assertEqual(self.told_secretly(f"{bulk}&all=true"), own)
        self.assertEqual(self.told_secretly(f"{bulk}&userDNs=UID%3DAlice%2CDC%3DExample"), own)
        other_told = self.told_secretly(f"{bulk}&userDNs=uid%3Dbob")["uid=bob"]
        self.assertEqual(other_told, {"serviceAccounts": [], "stsKeys": []})
        for wrong in (f"{bulk}&all=true", f"{bulk}&userDNs=uid%3Dbob"):
            self.send("GET", wrong, by=alice, status=403)
        self.send("GET", f"{bulk}&all=true&userDNs=uid%3Dbob", status=400)
        self.send("GET", bulk, by=self.user, status=403)
