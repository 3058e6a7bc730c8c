# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.bucketconfig``, over the wire.
"""

from kypello.errors import KeyNotFound
from tests.s3.front import NAMESPACE, FrontCase, read_xml
from tests.s3.secure import SecureCase, customer

_SSE = "x-amz-server-side-encryption"
_RULE = "<ApplyServerSideEncryptionByDefault>{}</ApplyServerSideEncryptionByDefault>"
_AES256 = _RULE.format("<SSEAlgorithm>AES256</SSEAlgorithm>")


def configuration(*rules: str, namespace: str = f' xmlns="{NAMESPACE[1:-1]}"') -> bytes:
    """
    An encryption configuration.
    """
    content = "".join(f"<Rule>{rule}</Rule>" for rule in rules)
    root = "ServerSideEncryptionConfiguration"
    return f"<{root}{namespace}>{content}</{root}>".encode()


def blocking(*kinds: str) -> str:
    """
    The element that blocks kinds of encryption.
    """
    content = "".join(f"<EncryptionType>{kind}</EncryptionType>" for kind in kinds)
    return f"<BlockedEncryptionTypes>{content}</BlockedEncryptionTypes>"


class EncryptionTests(FrontCase):
    """
    The default encryption of a bucket.
    """

    target = "/bucket/?encryption="

    def test_life(self) -> None:
        """
        It can be set, told and removed, and new objects follow it.
        """
        missing = "ServerSideEncryptionConfigurationNotFoundError"
        self.refused("GET", self.target, 404, missing)
        for body in (configuration(_AES256), configuration(_AES256, namespace="")):
            self.send("PUT", self.target, body, status=200)
        tree = read_xml(self.send("GET", self.target, status=200))
        self.assertEqual(tree.tag, "ServerSideEncryptionConfiguration")
        path = "Rule/ApplyServerSideEncryptionByDefault/SSEAlgorithm"
        self.assertEqual(tree.findtext(path), "AES256")
        self.assertEqual(self.put("k").header(_SSE), "AES256")
        self.assertEqual(self.send("GET", "/bucket/k").header(_SSE), "AES256")
        for _ in range(2):
            self.send("DELETE", self.target, status=204)
        self.refused("GET", self.target, 404, missing)
        self.assertIsNone(self.put("k2").header(_SSE))
        self.assertEqual(self.send("GET", "/bucket/k").header(_SSE), "AES256")

    def test_accepted(self) -> None:
        """
        What changes nothing with AES256 is accepted.
        """
        for more, shared in (
            ("<BucketKeyEnabled>true</BucketKeyEnabled>", "true"),
            (
                "<BlockedEncryptionTypes><EncryptionType>NONE</EncryptionType>"
                "</BlockedEncryptionTypes>",
                "false",
            ),
        ):
            self.send("PUT", self.target, configuration(_AES256 + more), status=200)
            tree = read_xml(self.send("GET", self.target, status=200))
            self.assertEqual(tree.findtext("Rule/BucketKeyEnabled"), shared)

    def test_named_key(self) -> None:
        """
        New objects follow a master key, told in the spelling of the configuration; without a
        name the default one.
        """
        for stated, told in (
            ("", "arn:aws:kms:my-key"),
            ("<KMSMasterKeyID/>", "arn:aws:kms:my-key"),
            ("<KMSMasterKeyID>my-key</KMSMasterKeyID>", "my-key"),
            ("<KMSMasterKeyID>arn:aws:kms:my-key</KMSMasterKeyID>", "arn:aws:kms:my-key"),
        ):
            for shared in ("", "<BucketKeyEnabled>true</BucketKeyEnabled>"):
                rule = _RULE.format(f"<SSEAlgorithm>aws:kms</SSEAlgorithm>{stated}")
                self.send("PUT", self.target, configuration(rule + shared), status=200)
                tree = read_xml(self.send("GET", self.target, status=200))
                default = tree.find("Rule/ApplyServerSideEncryptionByDefault")
                assert default is not None
                self.assertEqual(default.findtext("SSEAlgorithm"), "aws:kms")
                key_id = default.findtext("KMSMasterKeyID")
                self.assertEqual(key_id, told if "my-key" in stated else None)
                answer = self.put("k")
                self.assertEqual(answer.header(_SSE), "aws:kms")
                self.assertEqual(answer.header(f"{_SSE}-aws-kms-key-id"), told)
                told_shared = "true" if shared else None
                self.assertEqual(answer.header(f"{_SSE}-bucket-key-enabled"), told_shared)
                self.assertEqual(self.send("GET", "/bucket/k").body, b"content")

    def test_key_tested(self) -> None:
        """
        A key that is named is tried before the bucket is set to it.
        """
        asked = []

        async def test_key(name: str) -> None:
            """
            Know one key.
            """
            asked.append(name)
            if name != "good":
                raise KeyNotFound(name)

        self.serve(test_key=test_key)
        rule = "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{}</KMSMasterKeyID>"
        good, bad, none = (
            configuration(_RULE.format(text))
            for text in (
                rule.format("arn:aws:kms:good"),
                rule.format("bad"),
                "<SSEAlgorithm>aws:kms</SSEAlgorithm>",
            )
        )
        self.refused("PUT", self.target, 400, "kms:KeyNotFound", body=bad)
        self.send("GET", self.target, status=404)
        self.send("PUT", self.target, good, status=200)
        self.send("PUT", self.target, none, status=200)
        self.assertEqual(asked, ["bad", "good"])

    def test_malformed(self) -> None:
        """
        What is no configuration is refused and changes nothing.
        """
        key = "<KMSMasterKeyID>k</KMSMasterKeyID>"
        for body in (
            b"text",
            b"<Other/>",
            configuration(),
            configuration(_AES256, _AES256),
            configuration(""),
            configuration("<BucketKeyEnabled>false</BucketKeyEnabled>"),
            configuration(_AES256 + "<BucketKeyEnabled>maybe</BucketKeyEnabled>"),
            configuration(_AES256 + "<Unknown/>"),
            configuration(_AES256 + "text"),
            configuration(_AES256 + _AES256),
            configuration(_RULE.format("")),
            configuration(_RULE.format("<SSEAlgorithm>AES128</SSEAlgorithm>")),
            configuration(_RULE.format("<SSEAlgorithm>aes256</SSEAlgorithm>")),
            configuration(_RULE.format("<SSEAlgorithm>AES256</SSEAlgorithm>" + key)),
            configuration(_RULE.format("<SSEAlgorithm>AES256</SSEAlgorithm><Other/>")),
            configuration(
                _RULE.format(
                    "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID> k</KMSMasterKeyID>"
                )
            ),
            configuration(
                _RULE.format(
                    "<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>ü</KMSMasterKeyID>"
                )
            ),
            configuration(_AES256, namespace=' xmlns="urn:other"'),
            *(
                configuration(_AES256 + blocking(*kinds))
                for kinds in (
                    ("x",),
                    (),
                    ("SSE-C", "SSE-C"),
                    ("NONE", "SSE-C"),
                )
            ),
            configuration("<BucketKeyEnabled>true</BucketKeyEnabled>" + blocking("SSE-C")),
        ):
            self.refused("PUT", self.target, 400, "MalformedXML", body=body)
        self.refused("PUT", self.target, 400, "MissingRequestBodyError")
        self.send("GET", self.target, status=404)

    def test_layers(self) -> None:
        """
        New objects get two layers, under the key that is named or the default one; that they shall
        share data keys is told again, and changes nothing.
        """
        for stated, told in (
            ("", "arn:aws:kms:my-key"),
            ("<KMSMasterKeyID>alias/my-key</KMSMasterKeyID>", "alias/my-key"),
        ):
            for shared in ("false", "true"):
                rule = _RULE.format(f"<SSEAlgorithm>aws:kms:dsse</SSEAlgorithm>{stated}")
                rule += f"<BucketKeyEnabled>{shared}</BucketKeyEnabled>"
                self.send("PUT", self.target, configuration(rule), status=200)
                tree = read_xml(self.send("GET", self.target, status=200))
                default = tree.find("Rule/ApplyServerSideEncryptionByDefault")
                assert default is not None
                self.assertEqual(default.findtext("SSEAlgorithm"), "aws:kms:dsse")
                self.assertEqual(default.findtext("KMSMasterKeyID"), told if stated else None)
                self.assertEqual(tree.findtext("Rule/BucketKeyEnabled"), shared)
                for answer in (self.put("k"), self.send("HEAD", "/bucket/k")):
                    self.assertEqual(answer.header(_SSE), "aws:kms:dsse")
                    self.assertEqual(answer.header(f"{_SSE}-aws-kms-key-id"), told)
                    self.assertIsNone(answer.header(f"{_SSE}-bucket-key-enabled"))
                self.assertEqual(self.send("GET", "/bucket/k").body, b"content")

    def test_not_configured(self) -> None:
        """
        Without a KMS there is nothing to encrypt with.
        """
        self.serve(encrypts=False)
        self.refused("PUT", self.target, 501, "NotImplemented", body=configuration(_AES256))

    def test_integrity(self) -> None:
        """
        A configuration that was damaged on the way is refused.
        """
        headers = {"Content-MD5": "A" * 22 + "=="}
        body = configuration(_AES256)
        self.refused("PUT", self.target, 400, "BadDigest", body=body, headers=headers)
        self.send("GET", self.target, status=404)

    def test_absent(self) -> None:
        """
        The bucket must exist.
        """
        for method, body in (("PUT", b"x"), ("GET", b""), ("DELETE", b"")):
            self.refused(method, "/absent?encryption", 404, "NoSuchBucket", body=body)


class BlockedTests(SecureCase):
    """
    Buckets that take no keys of clients.
    """

    target = "/bucket/?encryption="

    def test_blocked(self) -> None:
        """
        Nothing new is stored with such a key; what is there stays readable.
        """
        key = customer()
        self.send("PUT", "/bucket/k", b"old", key, status=200)
        upload_id = read_xml(self.send("POST", "/bucket/k?uploads", b"", key)).findtext("UploadId")
        self.send("PUT", self.target, configuration(_AES256 + blocking("SSE-C")), status=200)
        copy = {"x-amz-copy-source": "/bucket/plain", **key}
        self.put("plain")
        part = f"/bucket/k?partNumber=1&uploadId={upload_id}"
        for method, target, headers in (
            ("PUT", "/bucket/k", key),
            ("PUT", "/bucket/k", copy),
            ("POST", "/bucket/k?uploads", key),
            ("PUT", part, key),
            ("PUT", part, copy),
        ):
            self.refused(method, target, 403, "AccessDenied", body=b"", headers=headers)
        self.assertEqual(self.send("GET", "/bucket/k", headers=key).body, b"old")
        for unblocked in (configuration(_AES256 + blocking("NONE")), configuration(_AES256)):
            self.send("PUT", self.target, configuration(blocking("SSE-C")), status=200)
            self.refused("PUT", "/bucket/k", 403, "AccessDenied", headers=key)
            self.send("PUT", self.target, unblocked, status=200)
            self.send("PUT", "/bucket/k", b"", key, status=200)

    def test_told(self) -> None:
        """
        It is told, with the default encryption or alone, and removed with it.
        """
        for rule, algorithm, blocked in (
            (_AES256 + blocking("SSE-C"), "AES256", "SSE-C"),
            (blocking("SSE-C"), None, "SSE-C"),
            (_AES256 + blocking("NONE"), "AES256", None),
        ):
            self.send("PUT", self.target, configuration(rule), status=200)
            tree = read_xml(self.send("GET", self.target, status=200))
            path = "Rule/ApplyServerSideEncryptionByDefault/SSEAlgorithm"
            self.assertEqual(tree.findtext(path), algorithm)
            path = "Rule/BlockedEncryptionTypes/EncryptionType"
            self.assertEqual(tree.findtext(path), blocked)
            self.assertEqual(self.put("k").header(_SSE), algorithm)
        for remove in (("DELETE", b""), ("PUT", configuration(blocking("NONE")))):
            self.send("PUT", self.target, configuration(blocking("SSE-C")), status=200)
            self.send(remove[0], self.target, remove[1])
            self.send("GET", self.target, status=404)

    def test_new_buckets(self) -> None:
        """
        The operator may have new buckets begin so; each can be told otherwise.
        """
        self.serve(blocks_customer_keys=True)
        tree = read_xml(self.send("GET", self.target, status=200))
        path = "Rule/BlockedEncryptionTypes/EncryptionType"
        self.assertEqual(tree.findtext(path), "SSE-C")
        self.refused("PUT", "/bucket/k", 403, "AccessDenied", headers=customer())
        self.put("k")
        self.send("PUT", self.target, configuration(blocking("NONE")), status=200)
        self.send("PUT", "/bucket/k", b"", customer(), status=200)

    def test_without_kms(self) -> None:
        """
        It needs no KMS.
        """
        self.serve(encrypts=False)
        self.send("PUT", self.target, configuration(blocking("SSE-C")), status=200)
        self.refused("PUT", "/bucket/k", 403, "AccessDenied", headers=customer())


class UnsetTests(FrontCase):
    """
    Configurations that cannot be set.
    """

    def test_missing(self) -> None:
        """
        Clients are told with the codes that they know.
        """
        for name, code in {
            "cors": "NoSuchCORSConfiguration",
            "lifecycle": "NoSuchLifecycleConfiguration",
            "object-lock": "ObjectLockConfigurationNotFoundError",
            "policyStatus": "NoSuchBucketPolicy",
            "replication": "ReplicationConfigurationNotFoundError",
            "tagging": "NoSuchTagSet",
            "website": "NoSuchWebsiteConfiguration",
        }.items():
            self.refused("GET", f"/bucket/?{name}=&withUpdatedAt=true", 404, code)
            self.refused("GET", f"/absent?{name}", 404, "NoSuchBucket")
            if name not in ("cors", "lifecycle", "object-lock", "tagging"):
                self.refused("PUT", f"/bucket?{name}", 501, "NotImplemented", body=b"<x/>")

    def test_fixed(self) -> None:
        """
        Some have a state that never changes.
        """
        for name, root, path, text in (
            ("accelerate", "AccelerateConfiguration", "Status", None),
            ("acl", "AccessControlPolicy", "AccessControlList/Grant/Permission", "FULL_CONTROL"),
            ("logging", "BucketLoggingStatus", "LoggingEnabled", None),
            ("notification", "NotificationConfiguration", "QueueConfiguration", None),
            (
                "ownershipControls",
                "OwnershipControls",
                "Rule/ObjectOwnership",
                "BucketOwnerEnforced",
            ),
            ("requestPayment", "RequestPaymentConfiguration", "Payer", "BucketOwner"),
        ):
            tree = read_xml(self.send("GET", f"/bucket?{name}", status=200))
            self.assertEqual((tree.tag, tree.findtext(path)), (root, text))
            self.refused("GET", f"/absent?{name}", 404, "NoSuchBucket")

    def test_removal(self) -> None:
        """
        What is not there can be removed.
        """
        for name in (
            "cors", "lifecycle", "policy", "publicAccessBlock", "replication", "tagging", "website",
        ):  # fmt: skip
            self.send("DELETE", f"/bucket?{name}", status=204)
            self.refused("DELETE", f"/absent?{name}", 404, "NoSuchBucket")

    def test_objects(self) -> None:
        """
        Objects have an owner, no tags and no lock.
        """
        self.put("k")
        tree = read_xml(self.send("GET", "/bucket/k?acl", status=200))
        self.assertTrue(tree.findtext("Owner/ID"))
        tree = read_xml(self.send("GET", "/bucket/k?tagging", status=200))
        self.assertEqual((tree.tag, len(tree.findall("TagSet/Tag"))), ("Tagging", 0))
        self.send("DELETE", "/bucket/k?tagging", status=204)
        for name in ("retention", "legal-hold"):
            self.refused("GET", f"/bucket/k?{name}", 400, "InvalidRequest")
        for name in ("acl", "tagging", "retention", "legal-hold"):
            self.refused("GET", f"/bucket/absent?{name}", 404, "NoSuchKey")
        self.assertEqual(self.send("GET", "/bucket/k").body, b"content")
