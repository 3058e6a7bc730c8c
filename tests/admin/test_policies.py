# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of policies and who has them, by the administration API.
"""

import json
from typing import Any

from kypello.admin.policies import MAX_POLICY
from kypello.testing.harness import Answer
from tests.admin.front import AdminCase, Signer, policy

_ATTACH = "idp/builtin/policy/attach"
_DETACH = "idp/builtin/policy/detach"


class PolicyTests(AdminCase):
    """
    Policies are made, seen, replaced and removed.
    """

    def test_life(self) -> None:
        """
        A policy is told as it was given, with when it was made, until it is removed.
        """
        document = policy("s3:GetObject")
        self.send("PUT", "add-canned-policy?name=reading", document)
        told = self.told("info-canned-policy?name=reading&v=2")
        self.assertEqual(told["PolicyName"], "reading")
        self.assertEqual(told["Policy"], json.loads(document))
        self.assertEqual(told["CreateDate"], told["UpdateDate"])
        self.assertEqual(self.told("info-canned-policy?name=reading"), json.loads(document))
        self.assertEqual(self.told("list-canned-policies")["reading"], json.loads(document))
        self.send("DELETE", "remove-canned-policy?name=reading")
        answer = self.send("GET", "info-canned-policy?name=reading&v=2", status=404)
        self.refused(answer, "XMinioAdminNoSuchPolicy")

    def test_canned(self) -> None:
        """
        Policies that come with the server are listed, have no dates, and stay.
        """
        names = {"readonly", "writeonly", "readwrite", "diagnostics", "consoleAdmin"}
        self.assertEqual(set(self.told("list-canned-policies")), names)
        self.assertNotIn("CreateDate", self.told("info-canned-policy?name=readonly&v=2"))
        answer = self.send("DELETE", "remove-canned-policy?name=readonly", status=400)
        self.refused(answer, "XMinioAdminInvalidArgument")

    def test_malformed(self) -> None:
        """
        What is no policy is refused, and says why.
        """
        maybe = policy("s3:GetObject", effect="Maybe")
        answer = self.send("PUT", "add-canned-policy?name=p", maybe, status=400)
        self.assertEqual(self.refused(answer, "XMinioMalformedIAMPolicy"), "invalid Effect Maybe")
        for document in (b"[]", b"text", b"\xff", b"[" * 10_000):
            answer = self.send("PUT", "add-canned-policy?name=p", document, status=400)
            self.refused(answer, "XMinioMalformedIAMPolicy")
        empty = b'{"Version":"2012-10-17","Statement":[]}'
        for document in (b"", empty):
            answer = self.send("PUT", "add-canned-policy?name=p", document, status=400)
            self.refused(answer, "XMinioAdminInvalidArgument")
        large = policy("s3:GetObject") + b" " * MAX_POLICY
        answer = self.send("PUT", "add-canned-policy?name=p", large, status=400)
        self.refused(answer, "EntityTooLarge")
        answer = self.send("PUT", "add-canned-policy?name=a%2Cb", policy("s3:*"), status=400)
        self.refused(answer, "PolicyInvalidName")

    def change(self, call: str, names: list[str], status: int = 200, **holder: str) -> Answer:
        """
        Attach or detach policies.
        """
        return self.sealed("POST", call, {"policies": names, **holder}, status=status)

    def test_attach_and_detach(self) -> None:
        """
        What is attached and detached is told; without effect it is an error that clients know.
        """
        self.make_user("somebody")
        told = self.opened(self.change(_ATTACH, ["readonly", "writeonly"], user="somebody"))
        self.assertEqual(told["policiesAttached"], ["readonly", "writeonly"])
        self.assertIn("updatedAt", told)
        answer = self.change(_ATTACH, ["readonly"], user="somebody", status=400)
        self.refused(answer, "XMinioAdminPolicyChangeAlreadyApplied")
        told = self.opened(self.change(_DETACH, ["readonly"], user="somebody"))
        self.assertEqual(told["policiesDetached"], ["readonly"])
        self.assertEqual(self.told("user-info?accessKey=somebody")["policyName"], "writeonly")

    def test_attach_refused(self) -> None:
        """
        Policies, users and groups have to be there, and it has to be one of these.
        """
        self.make_user("somebody")
        for names, holder, status, code in (
            (["nothing"], {"user": "somebody"}, 404, "XMinioAdminNoSuchPolicy"),
            (["readonly"], {"user": "nobody"}, 404, "XMinioAdminNoSuchUser"),
            (["readonly"], {"group": "nobody"}, 404, "XMinioAdminNoSuchGroup"),
            (["readonly"], {"user": "root-user"}, 404, "XMinioAdminNoSuchUser"),
            (["readonly"], {"user": "a", "group": "b"}, 400, "XMinioAdminInvalidArgument"),
            (["readonly"], {}, 400, "XMinioAdminInvalidArgument"),
            ([], {"user": "somebody"}, 400, "XMinioAdminInvalidArgument"),
        ):
            answer = self.change(_ATTACH, names, status, **holder)
            self.refused(answer, code)

    def test_entries(self) -> None:
        """
        Entries of a directory have policies by any spelling of their names.
        """
        call = "idp/ldap/policy/"
        alice, staff = "uid=alice,dc=example", "cn=staff,dc=example"
        self.opened(self.change(call + "attach", ["readonly"], user="UID=Alice, DC=Example"))
        answer = self.change(call + "attach", ["readonly"], 400, user=alice)
        self.refused(answer, "XMinioAdminPolicyChangeAlreadyApplied")
        told = self.opened(self.change(call + "attach", ["readonly", "writeonly"], group=staff))
        self.assertEqual(told["policiesAttached"], ["readonly", "writeonly"])
        told = self.opened(self.change(call + "detach", ["readonly"], group=staff))
        self.assertEqual(told["policiesDetached"], ["readonly"])
        answer = self.change(call + "attach", ["readonly"], 400, user="alice")
        self.assertIn("uid=alice", self.refused(answer, "XMinioAdminInvalidArgument"))

    def test_policies_of_entries(self) -> None:
        """
        Entries of a directory with policies are told apart from users and groups.
        """
        alice, call = "uid=alice,dc=example", "idp/ldap/policy-entities"
        self.make_user("somebody", policy("s3:GetObject"))
        self.opened(self.change("idp/ldap/policy/attach", ["readonly"], user=alice))
        told = self.opened(self.send("GET", call))
        self.assertEqual(
            told["policyMappings"], [{"policy": "readonly", "users": [alice], "groups": None}]
        )
        told = self.opened(self.send("GET", f"{call}?user=UID%3Dalice%2CDC%3Dexample&group=cn%3Dx"))
        self.assertEqual(
            told["userMappings"], [{"user": "UID=alice,DC=example", "policies": ["readonly"]}]
        )
        self.assertEqual(told["groupMappings"], [{"group": "cn=x", "policies": []}])
        self.assertNotIn("policyMappings", told)
        here = self.opened(self.send("GET", "idp/builtin/policy-entities"))
        self.assertNotIn("readonly", [one["policy"] for one in here["policyMappings"]])

    def test_policy_in_use(self) -> None:
        """
        A policy that somebody has is not removed.
        """
        self.make_user("somebody", policy("s3:GetObject"))
        answer = self.send("DELETE", "remove-canned-policy?name=somebody-0", status=400)
        self.refused(answer, "XMinioIAMPolicyInUse")

    def test_set_policies(self) -> None:
        """
        The older call replaces all policies of a user or a group at once.
        """
        self.make_user("somebody", policy("s3:GetObject"))
        self.done(self.accounts.add_members("staff", ["somebody"]))
        call = "set-user-or-group-policy?policyName={}&userOrGroup={}&isGroup={}"
        self.send("PUT", call.format("readonly%2Cwriteonly", "somebody", "false"))
        self.send("PUT", call.format("readonly", "staff", "true"))
        self.assertEqual(
            self.told("user-info?accessKey=somebody")["policyName"], "readonly,writeonly"
        )
        self.assertEqual(self.told("group?group=staff")["policy"], "readonly")
        self.send("PUT", call.format("", "staff", "true"))
        self.assertEqual(self.told("group?group=staff")["policy"], "")

    def test_entities(self) -> None:
        """
        Who has what is told from each side.
        """
        self.make_user("somebody")
        self.done(self.accounts.add_members("staff", ["somebody"]))
        self.change(_ATTACH, ["readonly"], user="somebody")
        self.change(_ATTACH, ["readonly", "writeonly"], group="staff")
        told = self.entities("")
        self.assertEqual(list(told), ["policyMappings"])
        self.assertEqual(
            told["policyMappings"],
            [
                {"policy": "readonly", "users": ["somebody"], "groups": ["staff"]},
                {"policy": "writeonly", "users": None, "groups": ["staff"]},
            ],
        )
        staff = {"group": "staff", "policies": ["readonly", "writeonly"]}
        told = self.entities("?user=somebody&group=staff")
        self.assertEqual(
            told,
            {
                "userMappings": [
                    {"user": "somebody", "policies": ["readonly"], "memberOfMappings": [staff]}
                ],
                "groupMappings": [staff],
            },
        )
        told = self.entities("?policy=writeonly&policy=nothing")
        self.assertEqual([each["policy"] for each in told["policyMappings"]], ["writeonly"])

    def entities(self, query: str) -> dict[str, Any]:
        """
        Ask who has what.
        """
        told: dict[str, Any] = self.told_secretly(f"idp/builtin/policy-entities{query}")
        self.assertTrue(told.pop("timestamp"))
        return told

    def test_rights_take_effect(self) -> None:
        """
        A right holds from the request after it was attached, and no longer than it is.
        """
        user = self.make_user("somebody")
        self.send("GET", "info", by=user, status=403)
        self.change(_ATTACH, ["diagnostics"], user="somebody")
        self.send("GET", "info", by=user)
        self.change(_DETACH, ["diagnostics"], user="somebody")
        self.send("GET", "info", by=user, status=403)

    def test_rights_of_administration(self) -> None:
        """
        Statements that name no action of administration give none.
        """
        for document in (
            policy("s3:*"),
            b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":'
            b'["s3:DeleteBucket"],"Resource":["arn:aws:s3:::*"]}]}',
        ):
            user: Signer = self.make_user("somebody", document)
            for call in ("info", "list-users", "list-canned-policies"):
                self.send("GET", call, by=user, status=403)
            self.done(self.accounts.remove_user("somebody"))

    def test_conditions(self) -> None:
        """
        Conditions of rights are asked of the request: where it comes from, and how.
        """
        user = self.make_user("somebody")
        for number, (condition, status) in enumerate(
            (
                ({"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}, 200),
                ({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, 403),
                ({"Bool": {"aws:SecureTransport": "true"}}, 403),
                ({"Bool": {"aws:SecureTransport": "false"}}, 200),
                ({"StringLike": {"aws:UserAgent": "curl*"}}, 403),
            )
        ):
            with self.subTest(condition=condition):
                statement = {"Effect": "Allow", "Action": ["admin:*"], "Condition": condition}
                document = {"Version": "2012-10-17", "Statement": [statement]}
                name = f"conditional-{number}"
                self.send("PUT", f"add-canned-policy?name={name}", json.dumps(document).encode())
                self.change(_ATTACH, [name], user="somebody")
                self.send("GET", "groups", by=user, status=status)
                self.change(_DETACH, [name], user="somebody")

    def test_deny_everything(self) -> None:
        """
        A statement that denies everything denies administration, too.
        """
        denied = (
            b'{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}'
        )
        user = self.make_user("somebody", policy("admin:*"), denied)
        for call in ("groups", "user-info?accessKey=somebody", "list-service-accounts"):
            self.send("GET", call, by=user, status=403)
