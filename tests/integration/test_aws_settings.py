# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The AWS command line with versions, locks, tags, conditions and what buckets can be set to.
"""

import json
from typing import Any

from tests.integration import test_clients

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


class AwsTests(test_clients.AwsTests):
    """
    The AWS command line.
    """

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
