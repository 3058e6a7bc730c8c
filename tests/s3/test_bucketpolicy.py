# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for policies of buckets, and what keeps them from being public.
"""

import json
from typing import Any

from tests.s3.front import FrontCase, read_xml

_TARGET = "/bucket?policy"
_BLOCK = "/bucket?publicAccessBlock"
_READ: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::bucket/*",
}


def policy(**changes: Any) -> bytes:
    """
    A policy of one statement, that everybody may read unless it is changed.
    """
    return json.dumps({"Version": "2012-10-17", "Statement": [{**_READ, **changes}]}).encode()


def block(**flags: str) -> bytes:
    """
    A public access block.
    """
    content = "".join(f"<{name}>{flag}</{name}>" for name, flag in flags.items())
    root = "PublicAccessBlockConfiguration"
    return f"<{root}>{content}</{root}>".encode()


class PolicyTests(FrontCase):
    """
    The policy of a bucket.
    """

    def test_kept(self) -> None:
        """
        A policy is given back byte for byte, and gone when it is removed.
        """
        text = policy().replace(b", ", b" ,\n  ")
        self.send("PUT", _TARGET, text, status=204)
        answer = self.send("GET", _TARGET, status=200)
        self.assertEqual(answer.body, text)
        self.assertEqual(answer.header("Content-Type"), "application/json")
        self.send("DELETE", _TARGET, status=204)
        self.refused("GET", _TARGET, 404, "NoSuchBucketPolicy")
        self.send("DELETE", _TARGET, status=204)

    def test_malformed(self) -> None:
        """
        What is no policy for this bucket is refused, and the one that it has stays.
        """
        self.send("PUT", _TARGET, policy(), status=204)
        for text in (
            b"{",
            b"[]",
            b"{}",
            policy(Effect="Maybe"),
            policy(Action="s3:Nope"),
            policy(Resource="arn:aws:s3:::other/*"),
            policy(Principal=[]),
        ):
            self.refused("PUT", _TARGET, 400, "MalformedPolicy", body=text)
        too_large = policy(Sid="x" * 20 * 1024)
        self.refused("PUT", _TARGET, 400, "PolicyTooLarge", body=too_large)
        self.refused("PUT", _TARGET, 400, "MissingRequestBodyError")
        self.assertEqual(self.send("GET", _TARGET).body, policy())

    def test_absent_bucket(self) -> None:
        """
        A bucket that does not exist has no policy.
        """
        for name in ("policy", "publicAccessBlock"):
            for method in ("GET", "PUT", "DELETE"):
                self.refused(method, f"/absent?{name}", 404, "NoSuchBucket", body=policy())
        self.refused("GET", "/absent?policyStatus", 404, "NoSuchBucket")

    def test_status(self) -> None:
        """
        A policy is public when it gives something to everybody.
        """
        target = "/bucket?policyStatus"
        self.refused("GET", target, 404, "NoSuchBucketPolicy")
        for text, public in (
            (policy(), "true"),
            (policy(Principal={"AWS": ["alice"]}), "false"),
            (policy(Effect="Deny"), "false"),
        ):
            self.send("PUT", _TARGET, text, status=204)
            tree = read_xml(self.send("GET", target, status=200))
            self.assertEqual((tree.tag, tree.findtext("IsPublic")), ("PolicyStatus", public))


class PublicAccessBlockTests(FrontCase):
    """
    What a policy may not make public.
    """

    def test_kept(self) -> None:
        """
        What is not said is off.
        """
        self.refused("GET", _BLOCK, 404, "NoSuchPublicAccessBlockConfiguration")
        self.send("PUT", _BLOCK, block(BlockPublicPolicy="TRUE"), status=200)
        tree = read_xml(self.send("GET", _BLOCK, status=200))
        self.assertEqual(
            [(child.tag, child.text) for child in tree],
            [
                ("BlockPublicAcls", "false"),
                ("IgnorePublicAcls", "false"),
                ("BlockPublicPolicy", "true"),
                ("RestrictPublicBuckets", "false"),
            ],
        )
        self.send("DELETE", _BLOCK, status=204)
        self.refused("GET", _BLOCK, 404, "NoSuchPublicAccessBlockConfiguration")

    def test_malformed(self) -> None:
        """
        Flags are true or false.
        """
        for body in (block(BlockPublicPolicy="yes"), block(Other="true"), b"<x/>"):
            self.refused("PUT", _BLOCK, 400, "MalformedXML", body=body)

    def test_public_policy(self) -> None:
        """
        A public policy cannot be put where that is blocked; one for somebody can.
        """
        self.send("PUT", _BLOCK, block(BlockPublicPolicy="true"), status=200)
        self.refused("PUT", _TARGET, 403, "AccessDenied", body=policy())
        self.refused("GET", _TARGET, 404, "NoSuchBucketPolicy")
        self.send("PUT", _TARGET, policy(Principal={"AWS": ["alice"]}), status=204)
