# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of users and groups by the administration API.
"""

import json

from kypello.iam.values import Holder, HolderKind
from kypello.testing.harness import Answer
from tests.admin.front import ROOT, AdminCase, Signer, policy


class UserTests(AdminCase):
    """
    Users are made, seen, changed and removed.
    """

    def add(self, name: str, secret_key: str = "some-secret", status: int = 200) -> None:
        """
        Make a user.
        """
        wanted = {"secretKey": secret_key, "status": "enabled"}
        self.sealed("PUT", f"add-user?accessKey={name}", wanted, status=status)

    def test_life(self) -> None:
        """
        A user that was made signs, is disabled, enabled again, and removed.
        """
        self.add("somebody")
        user = Signer("somebody", "some-secret")
        told = self.told("user-info?accessKey=somebody", by=user)
        self.assertEqual(told["status"], "enabled")
        self.assertRegex(told["updatedAt"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        self.send("PUT", "set-user-status?accessKey=somebody&status=disabled")
        self.assertEqual(self.told("user-info?accessKey=somebody")["status"], "disabled")
        self.send("PUT", "set-user-status?accessKey=somebody&status=enabled")
        self.send("GET", "user-info?accessKey=somebody", by=user)
        self.send("DELETE", "remove-user?accessKey=somebody")
        answer = self.send("GET", "user-info?accessKey=somebody", status=404)
        self.refused(answer, "XMinioAdminNoSuchUser")
        answer = self.send("GET", "user-info?accessKey=somebody", by=user, status=403)
        self.refused(answer, "InvalidAccessKeyId")

    def test_list(self) -> None:
        """
        A list tells policies and groups of each user.
        """
        self.make_user("first", policy("s3:GetObject"), policy("s3:PutObject"))
        self.make_user("second")
        self.done(self.accounts.add_members("staff", ["second"]))
        told = self.told_secretly("list-users")
        self.assertEqual(list(told), ["first", "second"])
        self.assertEqual(told["first"]["policyName"], "first-0,first-1")
        self.assertNotIn("memberOf", told["first"])
        self.assertEqual(told["second"]["memberOf"], ["staff"])
        self.assertNotIn("policyName", told["second"])
        answer = self.send("GET", "list-users?bucket=b", status=501)
        self.refused(answer, "NotImplemented")

    def test_unknown(self) -> None:
        """
        What is asked about a user that is not there is refused.
        """
        for method, call in (
            ("GET", "user-info?accessKey=nobody"),
            ("GET", "user-info?accessKey=root-user"),
            ("PUT", "set-user-status?accessKey=nobody&status=enabled"),
            ("DELETE", "remove-user?accessKey=nobody"),
        ):
            answer = self.send(method, call, status=404)
            self.refused(answer, "XMinioAdminNoSuchUser")

    def test_limits(self) -> None:
        """
        Names and secrets that cannot be are refused, each with its own code.
        """
        by = self.make_user("boss", policy("admin:*"))
        for name, secret_key, status, code in (
            ("ab", "some-secret", 400, "XMinioAdminInvalidAccessKey"),
            ("a%3Db", "some-secret", 400, "XMinioAdminInvalidAccessKey"),
            ("somebody", "short", 400, "XMinioAdminInvalidSecretKey"),
            ("somebody", "s" * 41, 400, "XMinioAdminInvalidSecretKey"),
            ("root-user", "some-secret", 403, "XMinioInvalidIAMCredentials"),
            ("", "some-secret", 400, "XMinioAdminInvalidArgument"),
        ):
            with self.subTest(name=name, secret_key=secret_key):
                wanted = {"secretKey": secret_key, "status": "enabled"}
                answer = self.sealed(
                    "PUT", f"add-user?accessKey={name}", wanted, by=by, status=status
                )
                self.refused(answer, code)

    def test_malformed(self) -> None:
        """
        What is no description of a user is refused.
        """
        for wanted in ([], {}, {"secretKey": 5}, "text", None):
            answer = self.sealed("PUT", "add-user?accessKey=somebody", wanted, status=400)
            self.refused(answer, "XMinioAdminConfigBadJSON")
        wanted = {"secretKey": "some-secret", "status": "perhaps"}
        answer = self.sealed("PUT", "add-user?accessKey=somebody", wanted, status=400)
        self.refused(answer, "XMinioAdminInvalidArgument")

    def test_policy_of_a_new_user(self) -> None:
        """
        A user that is made with a policy gets none: that has a right of its own.
        """
        by = self.make_user("boss", policy("admin:CreateUser"))
        wanted = {"secretKey": "some-secret", "status": "enabled", "policy": "consoleAdmin"}
        self.sealed("PUT", "add-user?accessKey=somebody", wanted, by=by)
        self.assertNotIn("policyName", self.told("user-info?accessKey=somebody"))

    def test_own_secret(self) -> None:
        """
        A user without any right changes the own secret, and stays enabled.
        """
        user = self.make_user("somebody")
        wanted = {"secretKey": "new-secret", "status": "disabled"}
        self.sealed("PUT", "add-user?accessKey=somebody", wanted, by=user)
        self.send("GET", "user-info?accessKey=somebody", by=user, status=403)
        renewed = Signer("somebody", "new-secret")
        self.assertEqual(self.told("user-info?accessKey=somebody", by=renewed)["status"], "enabled")

    def test_own_secret_denied(self) -> None:
        """
        A statement that denies it keeps a user from changing the own secret.
        """
        user = self.make_user("somebody", policy("admin:CreateUser", effect="Deny"))
        wanted = {"secretKey": "new-secret", "status": "enabled"}
        answer = self.sealed("PUT", "add-user?accessKey=somebody", wanted, by=user, status=403)
        self.refused(answer, "AccessDenied")

    def test_secret_by_service_account(self) -> None:
        """
        What acts for a user cannot become the user, whatever the user may do.
        """
        user = self.make_user("somebody", policy("admin:*"))
        key = self.make_key(user)
        wanted = {"secretKey": "new-secret", "status": "enabled"}
        answer = self.sealed("PUT", "add-user?accessKey=somebody", wanted, by=key, status=403)
        self.refused(answer, "AccessDenied")

    def test_oneself(self) -> None:
        """
        Nobody disables or removes themselves.
        """
        user = self.make_user("somebody", policy("admin:*"))
        self.send("PUT", "set-user-status?accessKey=somebody&status=disabled", by=user, status=403)
        self.send("DELETE", "remove-user?accessKey=somebody", by=user, status=400)
        self.send("GET", "user-info?accessKey=somebody", by=user)

    def test_half_a_switch(self) -> None:
        """
        Who may only disable users cannot enable them.
        """
        self.make_user("somebody")
        by = self.make_user("guard", policy("admin:DisableUser"))
        self.send("PUT", "set-user-status?accessKey=somebody&status=disabled", by=by)
        self.send("PUT", "set-user-status?accessKey=somebody&status=enabled", by=by, status=403)
        self.send("PUT", "set-user-status?accessKey=somebody&status=odd", status=400)


class GroupTests(AdminCase):
    """
    Groups are made by their members, and removed when they have none.
    """

    def test_life(self) -> None:
        """
        A group that was made is seen, disabled, emptied and removed.
        """
        self.make_user("first")
        self.make_user("second")
        self.update(["first", "second"])
        self.done(self.accounts.attach(["readonly"], Holder(HolderKind.GROUP, "staff")))
        self.assertEqual(self.told("groups"), ["staff"])
        told = self.told("group?group=staff")
        told.pop("updatedAt")
        self.assertEqual(
            told,
            {
                "name": "staff",
                "status": "enabled",
                "members": ["first", "second"],
                "policy": "readonly",
            },
        )
        self.send("PUT", "set-group-status?group=staff&status=disabled")
        self.assertEqual(self.told("group?group=staff")["status"], "disabled")
        answer = self.update([], remove=True, status=400)
        self.refused(answer, "XMinioAdminGroupNotEmpty")
        self.update(["first", "second"], remove=True)
        self.update([], remove=True)
        answer = self.send("GET", "group?group=staff", status=404)
        self.refused(answer, "XMinioAdminNoSuchGroup")

    def test_refused(self) -> None:
        """
        Unknown members and names that cannot be are refused.
        """
        answer = self.update(["nobody"], status=404)
        self.refused(answer, "XMinioAdminNoSuchUser")
        self.assertEqual(self.told("groups"), [])
        self.make_user("somebody")
        answer = self.update(["somebody"], group="a,b", status=400)
        self.refused(answer, "XMinioInvalidGroupName")
        answer = self.update(["somebody"], group="", status=400)
        self.refused(answer, "XMinioAdminInvalidArgument")
        answer = self.send("PUT", "update-group-members", b"[]", status=400)
        self.refused(answer, "XMinioAdminConfigBadJSON")

    def test_half_a_right(self) -> None:
        """
        Who may only take users out of groups cannot put them in.
        """
        self.make_user("somebody")
        self.update(["somebody"])
        by = self.make_user("guard", policy("admin:RemoveUserFromGroup"))
        self.update(["somebody"], by=by, status=403)
        self.update(["somebody"], remove=True, by=by)

    def update(
        self,
        members: list[str],
        *,
        group: str = "staff",
        remove: bool = False,
        by: Signer | None = None,
        status: int = 200,
    ) -> Answer:
        """
        Add or remove members.
        """
        wanted = {"group": group, "members": members, "groupStatus": "", "isRemove": remove}
        content = json.dumps(wanted).encode()
        return self.send("PUT", "update-group-members", content, by=by or ROOT, status=status)
