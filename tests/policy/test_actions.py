# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.actions`` and ``kypello.policy.keys``.
"""

import re
from pathlib import Path

import kypello
from kypello.policy.actions import (
    ACTIONS,
    EVERY_ACTION,
    INCLUDED,
    OF_LISTING,
    canonical,
    matching,
    named_service,
    service_of,
)
from kypello.policy.keys import has_key, is_known, normal
from kypello.s3.routes import BUCKET, OBJECT, SERVICE
from tests.cases import SyncCase

_QUOTED = re.compile(r"\"((?:s3|admin|sts):[A-Z][A-Za-z]+)\"")


class ActionTests(SyncCase):
    """
    The actions that policies can name.
    """

    def test_operations(self) -> None:
        """
        Whatever an operation of S3 asks for can be allowed and denied.
        """
        asked = {
            operation.action
            for level in (SERVICE, BUCKET, OBJECT)
            for methods in level.routes.values()
            for operation in methods.values()
            if operation.action
        }
        self.assertGreater(len(asked), 40)
        self.assertEqual({one for one in asked if canonical(one) not in EVERY_ACTION}, set())

    def test_source(self) -> None:
        """
        Whatever else the program asks for can be, too.
        """
        folder = Path(kypello.__file__).parent
        for module in folder.rglob("*.py"):
            if module.is_relative_to(folder / "policy"):
                continue
            for action in _QUOTED.findall(module.read_text()):
                self.assertIn(canonical(action), EVERY_ACTION, module)

    def test_tables(self) -> None:
        """
        The tables name actions that exist.
        """
        self.assertEqual(OF_LISTING - ACTIONS["s3"], frozenset())
        self.assertEqual({*INCLUDED, *INCLUDED.values()} - ACTIONS["s3"], set())
        for service, actions in ACTIONS.items():
            self.assertEqual({service_of(action) for action in actions}, {service})

    def test_patterns(self) -> None:
        """
        A pattern stands for the actions that it matches.
        """
        self.assertEqual(matching("*", False), EVERY_ACTION)
        self.assertEqual(matching("s3:*", False), ACTIONS["s3"])
        self.assertEqual(matching("s3:Get*Cors", False), {"s3:GetBucketCORS"})
        self.assertEqual(matching("kms:GenerateDataKey*", False), {"kms:GenerateDataKey"})
        self.assertEqual(matching("s3:?etObject", False), {"s3:GetObject"})
        self.assertEqual(matching("s3:getobject", False), frozenset())
        self.assertEqual(matching("S3:getobject", True), {"s3:GetObject"})

    def test_named_service(self) -> None:
        """
        A pattern names a service when that stands there without wildcards.
        """
        for pattern, service in (
            ("admin:*", "admin"),
            ("kms:Decrypt", "kms"),
            ("*", None),
            ("admin", None),
            ("admin*", None),
            ("adm*:*", None),
            ("ec2:x", None),
        ):
            self.assertEqual(named_service(pattern), service, pattern)


class KeyTests(SyncCase):
    """
    The condition keys that actions have.
    """

    def test_known(self) -> None:
        """
        Names are compared without regard to case, keys of tags with it.
        """
        for name in (
            "aws:SourceIp",
            "AWS:SOURCEIP",
            "jwt:preferred_username",
            "ldap:groups",
            "s3:x-amz-acl",
            "s3:TlsVersion",
            "s3:ExistingObjectTag/Team",
            "s3:RequestObjectTag/a/b",
            "s3:RequestObjectTagKeys",
            "svc:DurationSeconds",
            "sts:DurationSeconds",
        ):
            self.assertTrue(is_known(normal(name)), name)
        for name in ("", "aws:", "aws:Nope", "s3:ExistingObjectTag/", "aws:username/x"):
            self.assertFalse(is_known(normal(name)), name)
        self.assertEqual(normal("S3:ExistingObjectTag/Team/A"), "s3:existingobjecttag/Team/A")

    def test_actions(self) -> None:
        """
        Actions have the keys that make sense for them.
        """
        for action, key, expected in (
            ("s3:ListBucket", "s3:prefix", True),
            ("s3:GetObject", "s3:prefix", False),
            ("s3:GetObject", "s3:existingobjecttag/Team", True),
            ("s3:GetObjectVersionTagging", "s3:existingobjecttag/Team", True),
            ("s3:PutObject", "s3:existingobjecttag/Team", False),
            ("s3:PutObject", "s3:requestobjecttag/Team", True),
            ("s3:PutObject", "s3:x-amz-copy-source", True),
            ("s3:PutObjectAcl", "s3:x-amz-acl", True),
            ("s3:CreateBucket", "s3:x-amz-acl", True),
            ("s3:GetObject", "s3:x-amz-acl", False),
            ("s3:PutObjectRetention", "s3:object-lock-remaining-retention-days", True),
            ("s3:DeleteBucket", "s3:authtype", True),
            ("admin:ServerInfo", "s3:authtype", False),
            ("admin:ServerInfo", "aws:sourceip", True),
            ("admin:CreateServiceAccount", "svc:durationseconds", True),
            ("sts:AssumeRoleWithWebIdentity", "sts:durationseconds", True),
            ("kms:Decrypt", "aws:username", True),
            ("kms:Decrypt", "sts:durationseconds", False),
        ):
            self.assertIs(has_key(action, key), expected, (action, key))
