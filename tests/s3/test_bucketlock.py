# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.bucketlock``.
"""

from tests.s3.front import presigned, read_xml, texts
from tests.s3.locks import ENABLED, LockCase, configuration
from tests.s3.test_versioning import document, excluding

_DAYS = "<Days>3</Days>"


class CreateTests(LockCase):
    """
    Buckets that are made with object lock.
    """

    def test_enabled(self) -> None:
        """
        Versioning is enabled at once, and there is no default retention.
        """
        tree = read_xml(self.send("GET", "/locked?versioning", status=200))
        self.assertEqual(tree.findtext("Status"), "Enabled")
        tree = read_xml(self.send("GET", "/locked?object-lock", status=200))
        self.assertEqual(tree.tag, "ObjectLockConfiguration")
        self.assertEqual([(child.tag, child.text) for child in tree], [(_ENABLED, "Enabled")])
        self.assertNotEqual(self.made(), "null")

    def test_not_enabled(self) -> None:
        """
        Without the header, or when it says no, there is neither; anything else is refused.
        """
        self.send("PUT", "/other", headers={_HEADER: "False"}, status=200)
        for bucket in ("bucket", "other"):
            self.assertEqual(self.send("GET", f"/{bucket}?versioning").body.count(b"Status"), 0)
            code = "ObjectLockConfigurationNotFoundError"
            self.refused("GET", f"/{bucket}?object-lock", 404, code)
        self.refused("PUT", "/third", 400, "InvalidArgument", headers={_HEADER: "maybe"})
        self.refused("PUT", "/bucket", 409, "BucketAlreadyOwnedByYou", headers=ENABLED)
        self.refused("GET", "/bucket?object-lock", 404, "ObjectLockConfigurationNotFoundError")

    def test_permitted(self) -> None:
        """
        It takes the right to set object lock, and versioning.
        """
        for action in ("s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"):
            self.forbidden = {(action, "new")}
            self.refused("PUT", "/new", 403, "AccessDenied", headers=ENABLED)
        self.refused("GET", "/new?location", 404, "NoSuchBucket")

    def test_made_again(self) -> None:
        """
        A bucket of the name of one that had object lock has none, unless it is made so.
        """
        self.send("DELETE", "/locked", status=204)
        self.send("PUT", "/locked", status=200)
        self.refused("GET", "/locked?object-lock", 404, "ObjectLockConfigurationNotFoundError")


_HEADER = "x-amz-bucket-object-lock-enabled"
_ENABLED = "ObjectLockEnabled"


class ConfigurationTests(LockCase):
    """
    ``?object-lock`` of buckets.
    """

    def put(self, body: bytes, bucket: str = "locked") -> None:
        """
        Set it.
        """
        self.assertEqual(self.send("PUT", f"/{bucket}?object-lock", body, status=200).body, b"")

    def default(self, bucket: str = "locked") -> dict[str, str | None]:
        """
        The default retention.
        """
        tree = read_xml(self.send("GET", f"/{bucket}?object-lock", status=200))
        self.assertEqual(texts(tree, _ENABLED), ["Enabled"])
        return {child.tag: child.text for child in tree.findall("Rule/DefaultRetention/*")}

    def test_default(self) -> None:
        """
        The default retention is set, changed and taken away; the lock itself stays.
        """
        self.put(configuration(_DAYS))
        self.assertEqual(self.default(), {"Mode": "GOVERNANCE", "Days": "3"})
        self.put(configuration("<Years>100</Years>", "COMPLIANCE"))
        self.assertEqual(self.default(), {"Mode": "COMPLIANCE", "Years": "100"})
        self.put(configuration("<Days>36500</Days>"))
        self.put(configuration())
        self.assertEqual(self.default(), {})
        self.refused("DELETE", "/locked?object-lock", 501, "NotImplemented")
        self.assertEqual(self.default(), {})

    def test_later(self) -> None:
        """
        It can be set on a bucket whose versioning is enabled without exception, and on no other.
        """
        for status in (None, "Suspended"):
            if status is not None:
                self.send("PUT", "/bucket?versioning", document(status), status=200)
            target = "/bucket?object-lock"
            tree = self.refused("PUT", target, 409, "InvalidBucketState", body=configuration())
            message = tree.findtext("Message") or ""
            self.assertIn("Versioning must be 'Enabled' on the bucket", message)
        for more in (excluding("tmp/"), "<ExcludeFolders>true</ExcludeFolders>"):
            self.send("PUT", "/bucket?versioning", document("Enabled", more), status=200)
            self.refused("PUT", target, 409, "InvalidBucketState", body=configuration())
        self.send("PUT", "/bucket?versioning", document("Enabled"), status=200)
        self.put(configuration(_DAYS), "bucket")
        self.assertEqual(self.default("bucket"), {"Mode": "GOVERNANCE", "Days": "3"})

    def test_versioning_stays(self) -> None:
        """
        Versioning of a bucket with object lock stays enabled, for all keys.
        """
        for body in (
            document("Suspended"),
            document("Enabled", excluding("tmp/")),
            document("Enabled", "<ExcludeFolders>true</ExcludeFolders>"),
        ):
            target = "/locked?versioning"
            tree = self.refused("PUT", target, 409, "InvalidBucketState", body=body)
            message = tree.findtext("Message") or ""
            self.assertIn("An Object Lock configuration is present on this bucket", message)
        self.send("PUT", "/locked?versioning", document("Enabled"), status=200)
        self.assertEqual(self.send("GET", "/locked?versioning").body.count(b"Enabled"), 1)

    def test_refused(self) -> None:
        """
        What is no such document, or asks for what cannot be, changes nothing.
        """
        self.put(configuration(_DAYS))
        whole = configuration(_DAYS).decode()
        malformed = (
            "x",
            "<Other/>",
            "<ObjectLockConfiguration/>",
            whole.replace(">Enabled<", ">Disabled<"),
            whole.replace(">Enabled<", ">enabled<"),
            whole.replace("<ObjectLockEnabled>Enabled</ObjectLockEnabled>", ""),
            whole.replace("<Rule>", "<Rule/><Rule>"),
            whole.replace("GOVERNANCE", "governance"),
            whole.replace("GOVERNANCE", ""),
            whole.replace("<Mode>GOVERNANCE</Mode>", ""),
            whole.replace(_DAYS, ""),
            whole.replace(_DAYS, "<Days/>"),
            whole.replace(_DAYS, "<Days>1.5</Days>"),
            whole.replace(_DAYS, "<Days>3</Days><Years>1</Years>"),
            whole.replace(_DAYS, "<Months>1</Months>"),
            whole.replace("<Rule>", "<Rule><Other/>"),
        )
        for body in malformed:
            self.refused("PUT", "/locked?object-lock", 400, "MalformedXML", body=body.encode())
        for period, message in (
            ("<Days>0</Days>", "must be a positive integer value"),
            ("<Days>-1</Days>", "must be a positive integer value"),
            ("<Years>0</Years>", "must be a positive integer value"),
            ("<Days>36501</Days>", "too large"),
            ("<Years>101</Years>", "too large"),
        ):
            body = configuration(period)
            target = "/locked?object-lock"
            tree = self.refused("PUT", target, 400, "InvalidArgument", body=body)
            self.assertIn(message, tree.findtext("Message") or "")
        self.assertEqual(self.default(), {"Mode": "GOVERNANCE", "Days": "3"})
        for method in ("GET", "PUT"):
            target = "/absent?object-lock"
            self.refused(method, target, 404, "NoSuchBucket", body=configuration())

    def test_covered(self) -> None:
        """
        The document has to be covered by a digest.
        """
        answer = self.plainly("PUT", presigned("PUT", "/locked?object-lock"), [], configuration())
        self.assert_refused(answer, 400, "InvalidRequest")

    def test_permitted(self) -> None:
        """
        Reading and setting it are rights of their own.
        """
        self.forbidden = {("s3:GetBucketObjectLockConfiguration", "locked")}
        self.refused("GET", "/locked?object-lock", 403, "AccessDenied")
        self.put(configuration())
        self.forbidden = {("s3:PutBucketObjectLockConfiguration", "locked")}
        self.refused("PUT", "/locked?object-lock", 403, "AccessDenied", body=configuration())
        self.assertEqual(self.default(), {})
