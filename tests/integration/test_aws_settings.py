# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The AWS command line with versions, locks, tags, conditions and what buckets can be set to.
"""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.integration import test_clients
from tests.integration.receiver import Receiver
from tests.integration.test_faults import wait_until

_RULE = {
    "ID": "old",
    "Status": "Enabled",
    "Filter": {"And": {"Prefix": "tmp/", "Tags": [{"Key": "a", "Value": "b"}]}},
    "Expiration": {"Days": 3},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 1},
}
_CORS = {"AllowedMethods": ["GET"], "AllowedOrigins": ["https://*.example.com"]}
_LOCK = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
}

_EVENTS = json.dumps(
    {
        "QueueConfigurations": [
            {"QueueArn": "arn:minio:sqs::HOOK:webhook", "Events": ["s3:ObjectCreated:*"]}
        ]
    }
)
_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::bucket/*",
            }
        ],
    }
)


class AwsTests(test_clients.AwsTests):
    """
    The AWS command line.
    """

    def setUp(self) -> None:
        """
        Serve, with a target for events.
        """
        self.receiver = Receiver()
        self.receiver.start()
        self.addCleanup(self.receiver.stop)
        self.environment = {
            **self.environment,
            "MINIO_NOTIFY_WEBHOOK_ENABLE_HOOK": "on",
            "MINIO_NOTIFY_WEBHOOK_ENDPOINT_HOOK": self.receiver.url,
        }
        super().setUp()

    def api(self, command: str, *arguments: str) -> Any:
        """
        Run an operation on the bucket, and give what it tells.
        """
        told = self.aws("s3api", command, "--bucket", "bucket", *arguments)
        return json.loads(told) if told.strip() else None

    def refuse(self, code: str, *arguments: str) -> None:
        """
        Run an operation that the server refuses with a code.
        """
        with self.assertRaises(AssertionError) as caught:
            self.api(*arguments)
        self.assertIn(f"({code})", str(caught.exception))

    def test_round_trip(self) -> None:
        """
        What is set comes back, versions are told apart, and what must not happen is refused.
        """
        self.api("create-bucket", "--object-lock-enabled-for-bucket")
        for name, option, member, value in (
            ("object-lock-configuration", "object-lock-configuration", None, _LOCK),
            ("bucket-lifecycle-configuration", "lifecycle-configuration", "Rules", [_RULE]),
            ("bucket-cors", "cors-configuration", "CORSRules", [_CORS]),
            ("bucket-tagging", "tagging", "TagSet", [{"Key": "k", "Value": "v"}]),
        ):
            document = value if member is None else {member: value}
            self.api(f"put-{name}", f"--{option}", json.dumps(document))
            told = self.api(f"get-{name}")
            found = told["ObjectLockConfiguration"] if member is None else told[member]
            self.assertEqual(found, value, name)

        path = str(self.write("content", b"content"))
        where = ("--key", "tmp/k")
        made = self.api("put-object", *where, "--body", path, "--tagging", "a=b")
        self.refuse(
            "PreconditionFailed", "put-object", *where, "--body", path, "--if-none-match", "*"
        )
        tags = self.api("get-object-tagging", *where)
        self.assertEqual(tags["TagSet"], [{"Key": "a", "Value": "b"}])
        retention = self.api("get-object-retention", *where)["Retention"]
        self.assertEqual(retention["Mode"], "GOVERNANCE")
        wanted = ("--object-attributes", "ETag", "ObjectSize", "Checksum")
        attributes = self.api("get-object-attributes", *where, *wanted)
        self.assertEqual(attributes["ObjectSize"], 7)
        self.assertEqual(f'"{attributes["ETag"]}"', made["ETag"])

        marker = self.api("delete-object", *where)
        self.assertTrue(marker["DeleteMarker"])
        told = self.api("list-object-versions")
        self.assertEqual([one["VersionId"] for one in told["Versions"]], [made["VersionId"]])
        self.assertEqual([one["VersionId"] for one in told["DeleteMarkers"]], [marker["VersionId"]])
        version = (*where, "--version-id", made["VersionId"])
        self.refuse("AccessDenied", "delete-object", *version)
        self.api("put-object-legal-hold", *version, "--legal-hold", "Status=ON")
        bypassing = ("delete-object", *version, "--bypass-governance-retention")
        self.refuse("AccessDenied", *bypassing)
        self.api("put-object-legal-hold", *version, "--legal-hold", "Status=OFF")
        self.api(*bypassing)
        self.api("delete-object", *where, "--version-id", marker["VersionId"])
        self.api("delete-bucket")

    def test_rights_and_events(self) -> None:
        """
        A policy lets strangers read until public access is blocked, and what is stored is told.
        """
        self.api("create-bucket")
        self.api("put-bucket-notification-configuration", "--notification-configuration", _EVENTS)
        found = self.api("get-bucket-notification-configuration")["QueueConfigurations"]
        self.assertEqual([one["Events"] for one in found], [["s3:ObjectCreated:*"]])
        path = str(self.write("content", b"content"))
        self.api("put-object", "--key", "k", "--body", path)
        wait_until(lambda: self.receiver.keys() == ["bucket/k"])

        self.api("put-bucket-policy", "--policy", _POLICY)
        self.assertEqual(self.api("get-bucket-policy")["Policy"], _POLICY)
        status = self.api("get-bucket-policy-status")["PolicyStatus"]
        self.assertTrue(status["IsPublic"])
        url = f"{self.server.endpoint}/bucket/k"
        with urlopen(url, timeout=20) as answer:
            self.assertEqual(answer.read(), b"content")
        block = ("--public-access-block-configuration", "RestrictPublicBuckets=true")
        self.api("put-public-access-block", *block)
        with self.assertRaises(HTTPError) as refused:
            urlopen(url, timeout=20)
        self.assertEqual(refused.exception.code, 403)
        refused.exception.close()
        self.api("delete-public-access-block")
        self.api("delete-bucket-policy")
        self.refuse("NoSuchBucketPolicy", "get-bucket-policy")
