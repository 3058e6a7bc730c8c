# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.admin.encryptionrules``, and the commands that ask it.
"""

import json
from typing import Any

from attrs import evolve

from kypello.admin.root import AdminResource
from kypello.crypto.required import MAX_KEYS, RequiredEncryption, required_of
from kypello.crypto.sse import BLOCKED, SETTING, ServerSideEncryption
from kypello.testing.harness import Harness
from tests.admin.front import ROOT, Signer, policy
from tests.test_account_cli import CommandCase

_REQUIRED = "kypello/required-encryption?bucket=b"
_RULES = "kypello/encryption-rules?bucket=b"
_KMS = ServerSideEncryption("aws:kms", "alias/my-key")


class RulesCase(CommandCase):
    """
    A test with a bucket and a second master key.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        super().setUp()
        self.done(self.kms.create_key("other"))
        self.done(self.store.create_bucket("b", {}))

    def set(self, **settings: bytes) -> None:
        """
        Set something of the bucket.
        """
        self.done(self.store.change_bucket("b", lambda old: {**old, **settings}))

    def require(
        self, *kinds: str, keys: tuple[str, ...] = (), by: Signer = ROOT, status: int = 200
    ) -> Any:
        """
        Have the bucket require something; the answer.
        """
        body = json.dumps({"kinds": kinds, "keys": keys}).encode()
        return json.loads(self.send("PUT", _REQUIRED, body, by=by, status=status).body)

    def required(self) -> RequiredEncryption | None:
        """
        What the bucket requires.
        """
        return required_of(self.done(self.store.bucket("b")).settings)


class RouteTests(RulesCase):
    """
    The routes.
    """

    def test_set(self) -> None:
        """
        Kinds are kept in one order, keys by their names, each once; other settings stay, and so do
        they when the rule goes.
        """
        self.set(**{SETTING: _KMS.to_bytes(), BLOCKED: b"SSE-C"})
        told = self.require("sse-kms", "sse-s3", keys=("alias/other", "arn:aws:kms:other"))
        required = RequiredEncryption(("sse-s3", "sse-kms"), ("other",))
        self.assertEqual(self.required(), required)
        self.assertEqual(
            told,
            {
                "default": {"kind": "sse-kms", "key": "alias/my-key"},
                "required": {"kinds": ["sse-s3", "sse-kms"], "keys": ["other"]},
                "blocked": ["sse-c"],
                "unasked": "refused",
            },
        )
        self.assertEqual(self.told(_RULES), told)
        told = json.loads(self.send("DELETE", _REQUIRED).body)
        self.assertIsNone(self.required())
        self.assertEqual((told["required"], told["blocked"]), (None, ["sse-c"]))
        self.send("DELETE", _REQUIRED)

    def test_unasked(self) -> None:
        """
        It is told what becomes of an object whose client asks for nothing.
        """
        self.assertEqual(self.told(_RULES)["unasked"], "none")
        self.assertEqual(self.require("sse-s3")["unasked"], "refused")
        self.set(**{SETTING: ServerSideEncryption("AES256").to_bytes()})
        self.assertEqual(self.told(_RULES)["unasked"], "sse-s3")
        self.set(**{SETTING: ServerSideEncryption("aws:kms").to_bytes()})
        self.assertEqual(self.require("sse-kms", keys=("my-key",))["unasked"], "sse-kms")
        self.done(self.store.change_bucket("b", lambda old: {}))
        self.front = evolve(self.front, auto_encryption=True)
        self.harness = Harness(AdminResource(self.front), access_log=False)
        self.assertEqual(self.told(_RULES)["unasked"], "sse-s3")

    def test_refused(self) -> None:
        """
        What makes no sense, or would lock the bucket, is refused, and nothing is changed.
        """
        self.require("sse-c")
        for kinds, keys, status in (
            ((), (), 400),
            (("sse-x",), (), 400),
            (("sse-s3", "none"), (), 400),
            (("sse-s3",), ("other",), 400),
            (("sse-kms",), ("a/b",), 400),
            (("sse-kms",), ("",), 400),
            (("sse-kms",), tuple(map(str, range(MAX_KEYS + 1))), 400),
            (("sse-kms",), ("other", "absent"), 404),
        ):
            self.require(*kinds, keys=keys, status=status)
        for body in (b"", b"[]", b'{"kinds":["sse-kms"],"key":["other"]}', b'{"kinds":"sse-kms"}'):
            self.send("PUT", _REQUIRED, body, status=400)
        self.assertEqual(self.required(), RequiredEncryption(("sse-c",)))
        absent = _REQUIRED + "sent"
        for method, target in (("PUT", absent), ("DELETE", absent), ("GET", _RULES + "sent")):
            body = b'{"kinds":["sse-kms"],"keys":["absent"]}' if method == "PUT" else b""
            self.refused(self.send(method, target, body, status=404), "NoSuchBucket")
        self.send("PUT", "kypello/required-encryption", b'{"kinds":["sse-c"]}', status=400)

    def test_rights(self) -> None:
        """
        Who may set the rule may see it; who may only see it cannot set it, and who may set the
        default encryption can do neither.
        """
        setter = self.make_user("setter", policy("admin:SetRequiredEncryption"))
        viewer = self.make_user("viewer", policy("admin:GetRequiredEncryption"))
        other = self.make_user("other", policy("s3:*"))
        self.require("sse-s3", by=setter)
        for by in (setter, viewer):
            self.assertEqual(self.told(_RULES, by=by)["required"]["kinds"], ["sse-s3"])
        for by in (viewer, other):
            self.require("sse-c", by=by, status=403)
            self.send("DELETE", _REQUIRED, by=by, status=403)
        self.send("GET", _RULES, by=other, status=403)
        self.assertEqual(self.required(), RequiredEncryption(("sse-s3",)))


class CommandTests(RulesCase):
    """
    ``kypello bucket require`` and ``kypello bucket rules``.
    """

    def test_require(self) -> None:
        """
        Kinds and keys are set as they are given; without any, each kind is accepted, and with keys
        alone SSE-KMS.
        """
        for arguments, expected in (
            ((), RequiredEncryption(("sse-s3", "sse-kms", "dsse-kms", "sse-c"))),
            (("--kinds", "sse-kms, sse-c"), RequiredEncryption(("sse-kms", "sse-c"))),
            (("--key", "other"), RequiredEncryption(("sse-kms",), ("other",))),
            (
                ("--kinds", "sse-s3,sse-kms", "--key", "other", "--key", "my-key"),
                RequiredEncryption(("sse-s3", "sse-kms"), ("other", "my-key")),
            ),
            (("--none",), None),
        ):
            self.run_command("bucket", "require", "b", *arguments)
            self.assertEqual(self.required(), expected)
        self.assertIn("--none", self.failed("bucket", "require", "b", "--none", "--key", "other"))
        self.assertIn("sse-s3, sse-kms", self.failed("bucket", "require", "b", "--kinds", "kms"))
        self.assertIn("absent", self.failed("bucket", "require", "b", "--key", "absent"))

    def test_said(self) -> None:
        """
        A person is told what it means: for who asks for nothing, and for what is there already.
        """
        said = self.run_command("bucket", "require", "b", "--key", "other", people=True)
        self.assertIn("b requires encryption by SSE-KMS with the key other.", said)
        self.assertIn("What asks for no encryption is refused", said)
        self.assertIn("kypello encrypt verify", said)
        self.set(**{SETTING: ServerSideEncryption("aws:kms", "other").to_bytes()})
        said = self.run_command("bucket", "require", "b", "--key", "other", people=True)
        self.assertNotIn("refused", said)
        said = self.run_command("bucket", "require", "b", "--none", people=True)
        self.assertEqual(said, "b requires no encryption.\n")

    def test_rules(self) -> None:
        """
        All rules are one table.
        """
        self.set(**{SETTING: _KMS.to_bytes(), BLOCKED: b"SSE-C"})
        self.require("sse-s3", "sse-kms", keys=("my-key", "other"))
        self.assertEqual(
            self.run_command("bucket", "rules", "b", people=True).splitlines(),
            [
                "RULE      ENCRYPTION       KEYS",
                "default   sse-kms          alias/my-key",
                "required  sse-s3, sse-kms  my-key, other",
                "blocked   sse-c            -",
                "unasked   sse-kms          -",
            ],
        )
        self.done(self.store.change_bucket("b", lambda old: {}))
        rows = self.run_command("bucket", "rules", "b")
        self.assertEqual(rows[1], {"rule": "required", "encryption": [], "keys": []})
        self.assertEqual(rows[3], {"rule": "unasked", "encryption": ["in clear"], "keys": []})
