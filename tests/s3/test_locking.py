# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.locking``: what is stored with a lock, and what it keeps.
"""

from xml.etree.ElementTree import Element

from twisted.internet.defer import Deferred

from tests.contracts.locks import LOCK, locked
from tests.s3.front import Headers, at, read_xml, texts
from tests.s3.locks import BYPASS, DAY, LockCase, WriteCase, configuration, hold, retention
from tests.s3.secure import SecureChannel, customer

_HOLD = "x-amz-object-lock-legal-hold"
_UNTIL = "x-amz-object-lock-retain-until-date"
_MODE = "x-amz-object-lock-mode"
_FORCE = {"x-minio-force-delete": "true"}


class WriteTests(WriteCase):
    """
    Objects that are stored with a lock.
    """

    def test_headers(self) -> None:
        """
        Headers, or fields of a form, give a new version a retention, a hold, or both.
        """
        kept = self.keeping("COMPLIANCE", 2)
        retained = ("COMPLIANCE", self.shown(2))
        for name, way in self.ways.items():
            for headers, expected in (
                (kept, (*retained, None)),
                ({_HOLD: "ON"}, (None, None, "ON")),
                ({_HOLD: "OFF"}, (None, None, "OFF")),
                ({**kept, _HOLD: "ON"}, (*retained, "ON")),
                ({}, (None, None, None)),
            ):
                answer = way(headers)
                self.assertIn(answer.status, (200, 204), (name, answer.body))
                self.assertEqual(self.lock_of(), expected, name)

    def test_default(self) -> None:
        """
        What says nothing gets the retention of the bucket, from the time when it is stored; what
        says something about it does not.
        """
        self.send("PUT", "/locked?object-lock", configuration("<Days>2</Days>"), status=200)
        for name, way in self.ways.items():
            self.time.advance(60)
            way({})
            self.assertEqual(self.lock_of()[0], "GOVERNANCE", name)
            ends = {self.shown(2), self.shown(2 + 1 / DAY)}
            self.assertIn(self.lock_of()[1], ends, name)
            way({_HOLD: "ON"})
            mode, until, held = self.lock_of()
            self.assertEqual((mode, held), ("GOVERNANCE", "ON"), name)
            self.assertIn(until, ends, name)
            way(self.keeping("COMPLIANCE", 1))
            self.assertEqual(self.lock_of(), ("COMPLIANCE", self.shown(1), None), name)
        body = configuration("<Years>1</Years>", "COMPLIANCE")
        self.send("PUT", "/locked?object-lock", body, status=200)
        self.put_it({})
        self.assertEqual(self.lock_of()[0], "COMPLIANCE")

    def test_default_of_uploads(self) -> None:
        """
        The retention of the bucket counts from the end of an upload, as it is then.
        """
        begun = self.send("POST", at("locked", "k", "uploads"), status=200)
        upload = self.part_of(begun)
        self.send("PUT", "/locked?object-lock", configuration("<Days>2</Days>"), status=200)
        self.time.advance(5 * DAY)
        ends = {self.shown(2), self.shown(2 + 1 / DAY)}
        self.assertEqual(self.complete(upload).status, 200)
        self.assertIn(self.lock_of()[1], ends)
        before = self.lock_of()
        # Who asks again gets the same version.
        self.time.advance(60)
        self.assertEqual(self.complete(upload).status, 200)
        self.assertEqual(self.lock_of(), before)

    def test_extended(self) -> None:
        """
        A default can be made longer afterwards, and set again as it is told.
        """
        body = configuration("<Days>1</Days>", "COMPLIANCE")
        self.send("PUT", "/locked?object-lock", body, status=200)
        for way in self.ways.values():
            way({})
            mode, until, _held = self.lock_of()
            for date, status in ((until, 200), (self.date(3), 200), (until, 403)):
                body = retention(mode or "", date or "")
                self.send("PUT", at("locked", "k", "retention"), body, status=status)

    def test_refused(self) -> None:
        """
        What is wrong with a lock is told, and nothing is stored.
        """
        good = self.keeping()
        past = "The retain until date must be in the future!"
        both = f"{_UNTIL} and {_MODE} must both be supplied."
        for name, way in self.ways.items():
            for headers, message in (
                ({_MODE: "GOVERNANCE"}, both),
                ({_UNTIL: self.date(1)}, both),
                ({**good, _MODE: "governance"}, "Unknown wormMode directive."),
                ({**good, _MODE: "OTHER"}, "Unknown wormMode directive."),
                ({**good, _UNTIL: self.date(0)}, past),
                ({**good, _UNTIL: self.date(-1)}, past),
                ({**good, _UNTIL: self.date(366 * 100 + 1)}, "within 100 years"),
                ({**good, _UNTIL: "tomorrow"}, "must be provided in ISO 8601 format"),
                ({_HOLD: "on"}, "Legal Hold must be either of 'ON' or 'OFF'"),
                ({_HOLD: "YES"}, "Legal Hold must be either of 'ON' or 'OFF'"),
            ):
                tree = self.assert_refused(way(headers), 400, "InvalidArgument")
                self.assertIn(message, tree.findtext("Message") or "", (name, headers))
            event = {"x-amz-object-lock-event-hold": "ON"}
            self.assert_refused(way(event), 501, "NotImplemented")
        self.assertEqual(self.send("GET", "/locked?versions").body.count(b"<Key>"), 0)

    def test_without_lock(self) -> None:
        """
        In a bucket without object lock nothing is stored with a lock.
        """
        for way in self.ways.values():
            for headers in (self.keeping(), {_HOLD: "OFF"}, {_MODE: "x"}):
                self.assert_refused(way(headers, "bucket"), 400, "InvalidRequest")
        self.refused("GET", "/bucket/k", 404, "NoSuchKey")

    def test_permitted(self) -> None:
        """
        To store with a retention, or a hold, takes the right to set it.
        """
        for way in self.ways.values():
            for action, headers in (
                ("s3:PutObjectRetention", self.keeping()),
                ("s3:PutObjectLegalHold", {_HOLD: "ON"}),
            ):
                self.forbidden = {(action, "locked/k")}
                self.assert_refused(way(headers), 403, "AccessDenied")
                self.assertIn(way({}).status, (200, 204))

    def test_never_copied(self) -> None:
        """
        A copy has no lock of its source, not even onto itself.
        """
        self.made(headers={**self.keeping(), _HOLD: "ON"})
        headers = {"x-amz-copy-source": "locked/k", "x-amz-metadata-directive": "REPLACE"}
        for key in ("copy", "k"):
            self.send("PUT", at("locked", key), b"", headers, status=200)
            self.assertEqual(self.lock_of(key), (None, None, None))
        self.send("PUT", "/bucket/copy", b"", headers, status=200)

    def test_tags_stay_changeable(self) -> None:
        """
        Tags of a version that is kept can be changed.
        """
        self.made(headers={**self.keeping("COMPLIANCE"), _HOLD: "ON"})
        body = b"<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
        self.send("PUT", "/locked/k?tagging", body, status=200)
        self.send("DELETE", "/locked/k?tagging", status=204)
        self.assertEqual(self.lock_of(), ("COMPLIANCE", self.shown(1), "ON"))


class RemovalTests(WriteCase):
    """
    What a lock keeps.
    """

    def several(self, *version_ids: str, headers: Headers | None = None) -> Element:
        """
        Ask for the removal of versions of ``k``; an empty id for the object.
        """
        entries = "".join(
            "<Object><Key>k</Key>"
            + (f"<VersionId>{version_id}</VersionId>" if version_id else "")
            + "</Object>"
            for version_id in version_ids
        )
        body = f"<Delete>{entries}</Delete>".encode()
        return read_xml(self.send("POST", "/locked?delete", body, headers, status=200))

    def test_governance(self) -> None:
        """
        A version is kept until its retention ends, but for who bypasses it.
        """
        for way in self.ways.values():
            way(self.keeping("GOVERNANCE"))
            version_id = self.version(self.send("HEAD", at("locked", "k"), status=200))
            self.remove(version_id, 403)
            self.forbidden = {("s3:BypassGovernanceRetention", "locked/k")}
            self.remove(version_id, 403, BYPASS)
            self.forbidden = set()
            self.remove(version_id, 204, BYPASS)
            self.refused("GET", at("locked", "k"), 404, "NoSuchKey")
        version_id = self.made(headers=self.keeping("GOVERNANCE"))
        self.time.advance(DAY)
        self.remove(version_id, 204)

    def test_compliance(self) -> None:
        """
        A version is kept until its retention ends, whoever wants to remove it.
        """
        version_id = self.made(headers=self.keeping("COMPLIANCE"))
        self.time.advance(DAY - 1)
        for headers in (None, BYPASS):
            self.remove(version_id, 403, headers)
        self.time.advance(1)
        self.remove(version_id, 204)

    def test_hold(self) -> None:
        """
        A version with a hold is kept until that is lifted; a bypass does not help.
        """
        kept = {**self.keeping("GOVERNANCE"), _HOLD: "ON"}
        version_id = self.made(headers=kept)
        for headers in (None, BYPASS):
            self.remove(version_id, 403, headers)
        self.time.advance(DAY)
        self.remove(version_id, 403)
        self.send("PUT", at("locked", "k", "legal-hold"), hold("OFF"), status=200)
        self.remove(version_id, 204)
        version_id = self.made(headers={_HOLD: "OFF"})
        self.remove(version_id, 204)

    def test_not_locked(self) -> None:
        """
        Versions without a lock are removed as everywhere, and so are those that never were.
        """
        version_id = self.made()
        for headers in (None, BYPASS):
            self.remove(version_id, 204, headers)

    def test_markers(self) -> None:
        """
        A delete marker, or a new version, can be put above a version that is kept; markers can be
        removed.
        """
        kept = self.made(headers=self.keeping("COMPLIANCE"))
        answer = self.send("DELETE", at("locked", "k"), status=204)
        self.assertEqual(answer.header("x-amz-delete-marker"), "true")
        self.refused("GET", at("locked", "k"), 404, "NoSuchKey")
        self.made()
        self.remove(self.version(answer), 204)
        self.send("GET", at("locked", "k", f"versionId={kept}"), status=200)
        self.remove(kept, 403)

    def test_null(self) -> None:
        """
        What was stored before there were versions is kept, too.
        """
        self.put("k")
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.send("PUT", "/bucket?versioning", body, status=200)
        self.send("PUT", "/bucket?object-lock", configuration(), status=200)
        body = retention("COMPLIANCE", self.date(1))
        self.send("PUT", "/bucket/k?retention&versionId=null", body, status=200)
        for _ in range(2):
            self.refused("DELETE", "/bucket/k?versionId=null", 403, "AccessDenied")
            self.put("k")
            self.send("DELETE", "/bucket/k", status=204)
        target = "/bucket/k?versionId=null"
        self.assertEqual(self.send("GET", target, status=200).body, b"content")
        self.time.advance(DAY)
        self.send("DELETE", target, status=204)

    def test_several(self) -> None:
        """
        Of a list each version is kept or removed by itself.
        """
        governed = self.made(headers=self.keeping("GOVERNANCE"))
        complied = self.made(headers=self.keeping("COMPLIANCE"))
        held, free = self.made(headers={_HOLD: "ON"}), self.made()
        tree = self.several(governed, complied, held, free, "")
        self.assertEqual(texts(tree, "Error/VersionId"), [governed, complied, held])
        self.assertEqual(set(texts(tree, "Error/Code")), {"AccessDenied"})
        self.assertEqual(texts(tree, "Deleted/VersionId"), [free])
        self.assertEqual(texts(tree, "Deleted/DeleteMarker"), ["true"])
        self.forbidden = {("s3:BypassGovernanceRetention", "*")}
        tree = self.several(governed, free, "", headers=BYPASS)
        self.assertEqual(texts(tree, "Error/VersionId"), [governed, free])
        self.forbidden = set()
        tree = self.several(governed, complied, held, headers=BYPASS)
        self.assertEqual(texts(tree, "Error/VersionId"), [complied, held])
        self.assertEqual(texts(tree, "Deleted/VersionId"), [governed])

    def test_forced(self) -> None:
        """
        Nothing is removed by force from a bucket with object lock.
        """
        kept, free = self.made(headers=self.keeping("COMPLIANCE")), self.made()
        for target in ("/locked", "/locked/k", "/locked/"):
            self.refused("DELETE", target, 405, "MethodNotAllowed", headers=_FORCE)
        found = texts(read_xml(self.send("GET", "/locked?versions")), "Version/VersionId")
        self.assertEqual(found, [free, kept])

    def test_without_setting(self) -> None:
        """
        What is locked is kept whatever the bucket was when the request came, by force or not.
        """
        self.put("k")
        locking = self.store.change_version("bucket", "k", "", locked(LOCK))
        self.successResultOf(Deferred.fromCoroutine(locking))
        for headers in ({}, BYPASS):
            target = "/bucket/k?versionId=null"
            self.refused("DELETE", target, 403, "AccessDenied", headers=headers)
        for target in ("/bucket", "/bucket/k"):
            self.refused("DELETE", target, 403, "AccessDenied", headers=_FORCE)
        self.assertEqual(self.send("GET", "/bucket/k", status=200).body, b"content")

    def test_bucket(self) -> None:
        """
        A bucket with versions is not removed; an empty one is.
        """
        version_id = self.made(headers=self.keeping("COMPLIANCE"))
        self.send("DELETE", at("locked", "k"), status=204)
        self.refused("DELETE", "/locked", 409, "BucketNotEmpty")
        self.time.advance(DAY)
        self.remove(version_id, 204)
        tree = read_xml(self.send("GET", "/locked?versions", status=200))
        self.remove(texts(tree, "DeleteMarker/VersionId")[0], 204)
        self.send("DELETE", "/locked", status=204)

    def test_encrypted(self) -> None:
        """
        Locks of encrypted objects are set, told and kept, and need no key of the KMS to be kept.
        """
        sse = {"x-amz-server-side-encryption": "AES256"}
        version_id = self.made(headers={**sse, **self.keeping("COMPLIANCE")})
        body = retention("COMPLIANCE", self.date(2))
        self.send("PUT", at("locked", "k", "retention"), body, status=200)
        self.assertEqual(self.lock_of(), ("COMPLIANCE", self.shown(2), None))
        self.kms.down = True
        self.remove(version_id, 403)
        self.time.advance(2 * DAY)
        self.remove(version_id, 204)


class CustomerTests(LockCase):
    """
    Locks of objects with a key of their client.
    """

    def test_without_key(self) -> None:
        """
        They are set, told and kept without the key.
        """
        self.harness.site.protocol = SecureChannel
        key = customer()
        version_id = self.made(headers={**key, **self.keeping("COMPLIANCE")})
        target = at("locked", "k", "retention")
        self.send("PUT", target, retention("COMPLIANCE", self.date(2)), status=200)
        self.send("PUT", at("locked", "k", "legal-hold"), hold("ON"), status=200)
        tree = read_xml(self.send("GET", target, status=200))
        self.assertEqual(tree.findtext("RetainUntilDate"), self.shown(2))
        told = self.send("GET", at("locked", "k"), b"", key, status=200)
        self.assertEqual((told.body, told.header(_HOLD)), (b"data", "ON"))
        self.assertEqual(told.header(_UNTIL), self.shown(2))
        self.remove(version_id, 403, BYPASS)
