# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.versioning`` and ``kypello.versioning``.
"""

from kypello.errors import Damaged
from kypello.versioning import Versioning, is_version_id, told_sequence, versioning_of
from tests.cases import SyncCase
from tests.s3.front import FrontCase, read_xml, texts


def document(status: str, more: str = "") -> bytes:
    """
    A document that sets versioning.
    """
    content = f"<Status>{status}</Status>{more}"
    return f"<VersioningConfiguration>{content}</VersioningConfiguration>".encode()


def excluding(*prefixes: str) -> str:
    """
    The elements that exclude prefixes.
    """
    return "".join(
        f"<ExcludedPrefixes><Prefix>{prefix}</Prefix></ExcludedPrefixes>" for prefix in prefixes
    )


class SettingTests(SyncCase):
    """
    The setting of a bucket.
    """

    def test_round_trip(self) -> None:
        """
        A setting survives; another one is damaged, and none tells that there are no versions.
        """
        setting = Versioning("Enabled", ("a", "b/*"), True)
        self.assertEqual(versioning_of({"versioning": setting.to_bytes()}), setting)
        self.assertIsNone(versioning_of({}))
        for stored in (b"x", b"{}", b'{"status":"Off"}'):
            with self.assertRaises(Damaged):
                versioning_of({"versioning": stored})

    def test_keeps(self) -> None:
        """
        Versions are kept while it is enabled, but for keys that are excluded.
        """
        self.assertFalse(Versioning("Suspended").keeps("k"))
        self.assertTrue(Versioning("Enabled").keeps("folder/"))
        setting = Versioning("Enabled", ("tmp/", "jobs/*/_temporary", "a.b"), True)
        for key in ("tmp/", "tmp/x", "jobs/1/_temporary/x", "jobs/1\n/_temporary", "f/", "a.bc"):
            self.assertFalse(setting.keeps(key), key)
        for key in ("tmp", "x/tmp/", "jobs/_temporary", "axb", "k"):
            self.assertTrue(setting.keeps(key) or key.endswith("/"), key)

    def test_ids(self) -> None:
        """
        Ids are recognized, and tell their places.
        """
        version_id = f"{10:016x}{'f' * 16}"
        self.assertEqual(told_sequence(version_id), 10)
        self.assertTrue(is_version_id(version_id))
        self.assertTrue(is_version_id("null"))
        self.assertIsNone(told_sequence("null"))
        for other in ("", "x", "0" * 31, "0" * 33, "A" * 32, f"{version_id}\n"):
            self.assertFalse(is_version_id(other))


class VersioningTests(FrontCase):
    """
    ``?versioning`` of buckets.
    """

    def shown(self) -> tuple[str | None, list[str], str | None]:
        """
        Status, excluded prefixes and whether folders are.
        """
        tree = read_xml(self.send("GET", "/bucket?versioning", status=200))
        self.assertEqual(tree.tag, "VersioningConfiguration")
        prefixes = texts(tree, "ExcludedPrefixes/Prefix")
        return tree.findtext("Status"), prefixes, tree.findtext("ExcludeFolders")

    def test_states(self) -> None:
        """
        It is enabled and suspended any number of times, and may be suspended first.
        """
        self.assertEqual(self.shown(), (None, [], None))
        for status in ("Suspended", "Enabled", "Enabled", "Suspended"):
            answer = self.send("PUT", "/bucket?versioning", document(status), status=200)
            self.assertEqual(answer.body, b"")
            self.assertEqual(self.shown(), (status, [], None))
        body = document("Enabled", "<MfaDelete>Disabled</MfaDelete>")
        self.send("PUT", "/bucket?versioning", body, status=200)

    def test_excluded(self) -> None:
        """
        Prefixes and folders can be excluded.
        """
        more = excluding("a&amp;b/", "tmp/") + "<ExcludeFolders>true</ExcludeFolders>"
        self.send("PUT", "/bucket?versioning", document("Enabled", more), status=200)
        self.assertEqual(self.shown(), ("Enabled", ["a&b/", "tmp/"], "true"))
        for key, version_id in (("tmp/k", "null"), ("folder/", "null")):
            self.assertEqual(self.put(key).header("x-amz-version-id"), version_id)
        self.assertNotEqual(self.put("k").header("x-amz-version-id"), "null")

    def test_refused(self) -> None:
        """
        What is no such document changes nothing.
        """
        for body, status, code in (
            (b"", 400, "MissingRequestBodyError"),
            (b"x", 400, "MalformedXML"),
            (b"<VersioningConfiguration/>", 400, "MalformedXML"),
            (document("enabled"), 400, "MalformedXML"),
            (document("Off"), 400, "MalformedXML"),
            (document("Enabled", "<Status>Enabled</Status>"), 400, "MalformedXML"),
            (document("Enabled", "<Other/>"), 400, "MalformedXML"),
            (document("Enabled", "<MfaDelete>x</MfaDelete>"), 400, "MalformedXML"),
            (document("Enabled", "<MfaDelete>Enabled</MfaDelete>"), 501, "NotImplemented"),
            (document("Enabled", "<ExcludeFolders>yes</ExcludeFolders>"), 400, "MalformedXML"),
            (document("Enabled", "<ExcludedPrefixes/>"), 400, "MalformedXML"),
            (document("Enabled", excluding("")), 400, "MalformedXML"),
            (document("Enabled", excluding(*"abcdefghijk")), 400, "MalformedXML"),
            (document("Suspended", excluding("a")), 400, "MalformedXML"),
        ):
            self.refused("PUT", "/bucket?versioning", status, code, body=body)
        self.assertEqual(self.shown(), (None, [], None))
        self.refused("PUT", "/absent?versioning", 404, "NoSuchBucket", body=document("Enabled"))
        self.refused("GET", "/absent?versioning", 404, "NoSuchBucket")
        self.refused("DELETE", "/bucket?versioning", 501, "NotImplemented")
