# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for policies of buckets that ask for an encryption, or for a master key, over the wire.
"""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from kypello.iam.accounts import Accounts
from kypello.s3.root import S3Resource
from kypello.store.memory import MemoryIndex
from kypello.testing.harness import Harness
from tests.s3.front import ROOT, read_xml
from tests.s3.secure import SSE, SecureCase, SecureChannel, customer
from tests.s3.test_bucketconfig import configuration
from tests.s3.test_forms import FormCase
from tests.s3.test_reencryption import digest, kms, wanting

_KEY_ID = f"{SSE}-aws-kms-key-id"
_ARN = "arn:aws:kms:us-east-1:123456789012:key/my-key"
_S3, _KMS = {SSE: "AES256"}, {SSE: "aws:kms"}
_SPELLINGS = ("my-key", "arn:aws:kms:my-key", _ARN)


def denying(*conditions: Mapping[str, Any]) -> bytes:
    """
    A policy that denies to store what is like one of these.
    """
    denial = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::bucket/*",
    }
    statements = [{**denial, "Condition": condition} for condition in conditions]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}).encode()


def named(*names: str) -> dict[str, str]:
    """
    The headers that ask for a master key.
    """
    (name,) = names
    return {**_KMS, _KEY_ID: name}


#: Who does not ask for an encryption is refused.
ENCRYPTED = denying({"Null": {f"s3:{SSE}": "true"}})

#: So is who asks for another one than that.
BY_KMS = denying({"StringNotEquals": {f"s3:{SSE}": "aws:kms"}})


class RequiredCase(SecureCase):
    """
    A test in which policies decide, also about the root user.
    """

    def setUp(self) -> None:
        """
        Have policies.
        """
        super().setUp()
        accounts = Accounts(MemoryIndex(), None, ROOT, self.clock, os.urandom)
        front = evolve(self.front, authorizer=accounts, default_key="my-key")
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.harness.site.protocol = SecureChannel
        self.kms.keys["other"] = self.kms.with_default_key().keys["my-key"]

    def require(self, policy: bytes) -> None:
        """
        Set the policy of the bucket.
        """
        self.send("PUT", "/bucket?policy", policy, status=204)

    def check(
        self, admitted: Iterable[Mapping[str, str]], refused: Iterable[Mapping[str, str]]
    ) -> None:
        """
        See what may be stored and what not: by a PUT, a copy and an upload in parts.
        """
        for headers in admitted:
            self.send("PUT", "/bucket/k", b"content", headers, status=200)
            copy = {"x-amz-copy-source": "/source/k", **headers}
            self.send("PUT", "/bucket/k", b"", copy, status=200)
            self.upload_in_parts(headers)
        for headers in refused:
            self.refused("PUT", "/bucket/k", 403, "AccessDenied", body=b"x", headers=headers)
            copy = {"x-amz-copy-source": "/source/k", **headers}
            self.refused("PUT", "/bucket/k", 403, "AccessDenied", headers=copy)
            self.refused("POST", "/bucket/k?uploads", 403, "AccessDenied", headers=headers)

    def upload_in_parts(self, headers: Mapping[str, str]) -> None:
        """
        Upload in parts, which say nothing of the encryption unless they have to.
        """
        began = read_xml(self.send("POST", "/bucket/k?uploads", b"", headers, status=200))
        query = f"uploadId={began.findtext('UploadId')}"
        own = headers if f"{SSE}-customer-key" in headers else {}
        part = self.send("PUT", f"/bucket/k?partNumber=1&{query}", b"content", own, status=200)
        body = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{part.header('ETag')}</ETag></Part></CompleteMultipartUpload>"
        )
        self.send("POST", f"/bucket/k?{query}", body.encode(), status=200)
        got = self.send("GET", "/bucket/k", headers=own, status=200)
        self.assertEqual(got.body, b"content")


class RequiredTests(RequiredCase):
    """
    What a bucket demands of the encryption of its objects.
    """

    def setUp(self) -> None:
        """
        Have something to copy.
        """
        super().setUp()
        self.send("PUT", "/source", status=200)
        self.send("PUT", "/source/k", b"content", status=200)

    def test_encrypted(self) -> None:
        """
        A policy can demand an encryption with keys of the KMS, of any or of one kind.
        """
        self.require(ENCRYPTED)
        self.check((_S3, _KMS, named("other")), ({}, customer()))
        self.require(BY_KMS)
        self.check((_KMS, named("other")), ({}, _S3, customer()))

    def test_own_keys(self) -> None:
        """
        A policy can demand keys of clients, or refuse them.
        """
        algorithm = f"s3:{SSE}-customer-algorithm"
        self.require(denying({"Null": {algorithm: "true"}}))
        self.check((customer(),), ({}, _S3, _KMS))
        self.require(denying({"Null": {algorithm: "false"}}))
        self.check(({}, _S3, _KMS), (customer(),))

    def test_one_key(self) -> None:
        """
        A policy can demand a master key, or deny one, whatever form it and the client write the
        name in.
        """
        for written in _SPELLINGS[:2]:
            self.require(denying({"StringNotEquals": {f"s3:{_KEY_ID}": written}}))
            self.check(map(named, _SPELLINGS), ({}, _S3, _KMS, named("other")))
            self.require(denying({"StringEquals": {f"s3:{_KEY_ID}": written}}))
            self.check((named("other"),), map(named, _SPELLINGS))
        self.require(denying({"StringNotLike": {f"s3:{_KEY_ID}": "*:key/my-key"}}))
        self.check((named(_ARN),), (named("other"), named("my-key"), {}))

    def test_default_does_not_count(self) -> None:
        """
        A policy sees what the client sends: with a default encryption the object would be
        encrypted, and is refused all the same, as in AWS.
        """
        rule = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>my-key</KMSMasterKeyID>"
        default = f"<ApplyServerSideEncryptionByDefault>{rule}</ApplyServerSideEncryptionByDefault>"
        self.send("PUT", "/bucket?encryption", configuration(default), status=200)
        self.require(ENCRYPTED)
        self.check((_KMS,), ({},))
        # What is asked for only if it is there lets the default do the rest.
        unlike = {"StringNotEqualsIfExists": {f"s3:{SSE}": "aws:kms"}}
        self.require(denying({**unlike, "Null": {f"s3:{SSE}": "false"}}))
        self.check(({}, _KMS), (_S3,))

    def test_updated(self) -> None:
        """
        So is what an object's encryption is changed to, whatever the headers of the request say.
        """
        self.send("PUT", "/bucket/k", b"content", _S3, status=200)
        self.require(denying({"StringNotEquals": {f"s3:{_KEY_ID}": "my-key"}}))
        self.update_refused(kms("other"))
        self.update_refused(wanting("<SSE-S3/>"))
        for spelling in _SPELLINGS:
            body = kms(spelling)
            self.send("PUT", "/bucket/k?encryption", body, digest(body), status=200)
        self.require(denying({"StringEquals": {f"s3:{_KEY_ID}": "other"}}))
        self.update_refused(kms("other"))

    def update_refused(self, body: bytes) -> None:
        """
        See that an encryption may not be had.
        """
        for headers in ({}, named("my-key")):
            covered = {**digest(body), **headers}
            self.refused(
                "PUT", "/bucket/k?encryption", 403, "AccessDenied", body=body, headers=covered
            )

    def test_parts(self) -> None:
        """
        Parts count as what their upload began with, whoever set the policy since; nobody adds to
        an upload that may not be any more.
        """
        began = read_xml(self.send("POST", "/bucket/k?uploads", b"", _S3, status=200))
        part = f"/bucket/k?partNumber=1&uploadId={began.findtext('UploadId')}"
        self.require(ENCRYPTED)
        self.send("PUT", part, b"content", status=200)
        self.require(BY_KMS)
        self.refused("PUT", part, 403, "AccessDenied", body=b"content")
        # Nor does it help to tell another encryption than that of the upload.
        began = read_xml(self.send("POST", "/bucket/k?uploads", b"", named("other"), status=200))
        query = f"uploadId={began.findtext('UploadId')}"
        self.require(denying({"StringNotEquals": {f"s3:{_KEY_ID}": "my-key"}}))
        part = f"/bucket/k?partNumber=1&{query}"
        self.refused("PUT", part, 403, "AccessDenied", body=b"x")
        self.refused("PUT", part, 400, "InvalidArgument", body=b"x", headers=named("my-key"))
        absent = "/bucket/k?partNumber=1&uploadId=absent"
        self.refused("PUT", absent, 403, "AccessDenied", body=b"content")


class FormTests(FormCase, RequiredCase):
    """
    Forms, whose fields stand for headers.
    """

    def test_encrypted(self) -> None:
        """
        What a policy demands, it demands of forms as well.
        """
        self.require(BY_KMS)
        self.upload({"key": "k", SSE: "aws:kms"})
        for fields in ({}, {SSE: "AES256"}):
            self.upload({"key": "k", **fields}, status=403)
