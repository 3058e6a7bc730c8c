# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a bucket without any configuration answers to whoever asks for, sets or removes one.
"""

from tests.s3.front import FrontCase, read_xml

_OWNERSHIP = (
    b"<OwnershipControls><Rule><ObjectOwnership>%b</ObjectOwnership></Rule></OwnershipControls>"
)
_PAYMENT = b"<RequestPaymentConfiguration><Payer>%b</Payer></RequestPaymentConfiguration>"

#: Configurations, and what asking for them is answered: the root of a document, or a code.
_SHOWN = {
    "acl": "AccessControlPolicy",
    "accelerate": "AccelerateConfiguration",
    "cors": "NoSuchCORSConfiguration",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "location": "LocationConstraint",
    "logging": "BucketLoggingStatus",
    "notification": "NotificationConfiguration",
    "object-lock": "ObjectLockConfigurationNotFoundError",
    "ownershipControls": "OwnershipControls",
    "policy": "NoSuchBucketPolicy",
    "policyStatus": "NoSuchBucketPolicy",
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "replication": "ReplicationConfigurationNotFoundError",
    "requestPayment": "RequestPaymentConfiguration",
    "tagging": "NoSuchTagSet",
    "versioning": "VersioningConfiguration",
    "website": "NoSuchWebsiteConfiguration",
}

#: Those that can be removed.
_REMOVED = (
    "cors", "encryption", "lifecycle", "ownershipControls", "policy", "publicAccessBlock",
    "replication", "tagging", "website",
)  # fmt: skip


class BareBucketTests(FrontCase):
    """
    A bucket without any configuration.
    """

    def test_shown(self) -> None:
        """
        Each configuration is shown, or its absence told in its own words.
        """
        for name, expected in _SHOWN.items():
            for target in (f"/bucket?{name}", f"/bucket/?{name}="):
                answer = self.send("GET", target)
                if answer.status == 404:
                    self.assert_refused(answer, 404, expected)
                else:
                    self.assertEqual((answer.status, read_xml(answer).tag), (200, expected), name)

    def test_removed(self) -> None:
        """
        What is not there is removed already.
        """
        for name in _REMOVED:
            self.assertEqual(self.send("DELETE", f"/bucket?{name}", status=204).body, b"")

    def test_absent_bucket(self) -> None:
        """
        The bucket counts more than its configuration.
        """
        for name in _SHOWN:
            self.refused("GET", f"/absent?{name}", 404, "NoSuchBucket")
        for name in _REMOVED:
            self.refused("DELETE", f"/absent?{name}", 404, "NoSuchBucket")
        for name in ("ownershipControls", "requestPayment", "logging", "notification"):
            self.refused("PUT", f"/absent?{name}", 404, "NoSuchBucket", body=b"x")

    def test_not_offered(self) -> None:
        """
        What would change a bucket and cannot is not implemented; it never makes a bucket, or
        removes one.
        """
        for name in ("accelerate", "replication", "website"):
            self.refused("PUT", f"/bucket?{name}", 501, "NotImplemented", body=b"<X/>")
        for name in (
            "accelerate", "acl", "logging", "notification", "object-lock", "requestPayment",
        ):  # fmt: skip
            self.refused("DELETE", f"/bucket?{name}", 501, "NotImplemented")
        self.send("HEAD", "/bucket", status=200)


class SettledTests(FrontCase):
    """
    Configurations that are always the same.
    """

    def test_set_to_what_they_are(self) -> None:
        """
        What is shown can be set, and so can the same in the words of clients.
        """
        for name in ("ownershipControls", "requestPayment", "logging", "notification", "acl"):
            shown = self.send("GET", f"/bucket?{name}", status=200).body
            self.assertEqual(self.send("PUT", f"/bucket?{name}", shown, status=200).body, b"")
        self.send("PUT", "/bucket?ownershipControls", _OWNERSHIP % b"BucketOwnerEnforced")
        self.send("PUT", "/bucket?requestPayment", _PAYMENT % b"BucketOwner", status=200)

    def test_other_values(self) -> None:
        """
        Other values are refused, each in its own words.
        """
        for name, body, status, code in (
            ("ownershipControls", _OWNERSHIP % b"ObjectWriter", 400, "InvalidRequest"),
            ("ownershipControls", _OWNERSHIP % b"Nobody", 400, "MalformedXML"),
            ("ownershipControls", b"<OwnershipControls/>", 400, "MalformedXML"),
            ("requestPayment", _PAYMENT % b"Requester", 501, "NotImplemented"),
            ("requestPayment", _PAYMENT % b"Nobody", 400, "MalformedXML"),
            (
                "logging",
                b"<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>",
                501,
                "NotImplemented",
            ),
            (
                "notification",
                b"<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>",
                400,
                "MalformedXML",
            ),
        ):
            self.refused("PUT", f"/bucket?{name}", status, code, body=body)
        for name in ("ownershipControls", "requestPayment", "logging", "notification"):
            for body in (b"x", b"<Other/>"):
                self.refused("PUT", f"/bucket?{name}", 400, "MalformedXML", body=body)
            self.refused("PUT", f"/bucket?{name}", 400, "MissingRequestBodyError")
