# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What each operation tells of what it has done, over the wire.
"""

from base64 import b64encode
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

from kypello.model import Event
from kypello.testing.fakes import RecordingSink
from tests.s3.front import ROOT, at
from tests.s3.locks import ENABLED, hold, retention
from tests.s3.test_deletion import listing
from tests.s3.test_forms import FormCase
from tests.s3.test_multipart import UploadCase
from tests.s3.test_snowball import tree
from tests.s3.test_versioning import document

_COPY = {"x-amz-copy-source": "/bucket/k"}
_TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
_ATTRIBUTES = {"x-amz-object-attributes": "ETag"}
_FORCE = {"x-minio-force-delete": "true"}

#: Requests about a bucket with an object ``k``, and the events that they tell: names and keys.
_OPERATIONS: Any = (
    ("PUT", at("bucket", "n"), b"content", {}, [("ObjectCreated:Put", "n")]),
    ("PUT", at("bucket", "n"), b"", _COPY, [("ObjectCreated:Copy", "n")]),
    ("GET", at("bucket", "k"), b"", {}, [("ObjectAccessed:Get", "k")]),
    ("GET", at("bucket", "k"), b"", {"Range": "bytes=1-2"}, [("ObjectAccessed:Get", "k")]),
    ("HEAD", at("bucket", "k"), b"", {}, [("ObjectAccessed:Head", "k")]),
    (
        "GET",
        at("bucket", "k", "attributes"),
        b"",
        _ATTRIBUTES,
        [("ObjectAccessed:Attributes", "k")],
    ),
    ("PUT", at("bucket", "k", "tagging"), _TAGS, {}, [("ObjectCreated:PutTagging", "k")]),
    ("DELETE", at("bucket", "k", "tagging"), b"", {}, [("ObjectCreated:DeleteTagging", "k")]),
    ("DELETE", at("bucket", "k"), b"", {}, [("ObjectRemoved:Delete", "k")]),
    (
        "POST",
        "/bucket?delete",
        listing("k", "other"),
        {},
        [("ObjectRemoved:Delete", "k"), ("ObjectRemoved:Delete", "other")],
    ),
    ("DELETE", at("bucket", "k"), b"", _FORCE, [("ObjectRemoved:Delete", "k")]),
    ("PUT", "/new-bucket", b"", {}, [("BucketCreated:*", "")]),
    (
        "DELETE",
        "/bucket",
        b"",
        _FORCE,
        [("ObjectRemoved:Delete", "k"), ("BucketRemoved:*", "")],
    ),
    # What changes no object, or reads none.
    ("GET", "/", b"", {}, []),
    ("GET", "/bucket", b"", {}, []),
    ("HEAD", "/bucket", b"", {}, []),
    ("GET", at("bucket", "k", "tagging"), b"", {}, []),
    ("POST", at("bucket", "n", "uploads"), b"", {}, []),
    # What fails, or gives nothing.
    ("GET", at("bucket", "absent"), b"", {}, []),
    ("PUT", at("bucket", "k"), b"content", {"If-None-Match": "*"}, []),
    ("GET", at("bucket", "k"), b"", {"If-None-Match": "*"}, []),
    ("GET", at("bucket", "k"), b"", {"Range": "bytes=99-"}, []),
    ("PUT", at("bucket", "k", "tagging"), b"<Tagging/>", {}, []),
    ("DELETE", "/bucket", b"", {}, []),
)


def _covered(body: bytes) -> dict[str, str]:
    """
    The header that a document is verified by.
    """
    return {"Content-MD5": b64encode(md5(body).digest()).decode()}


class AnnouncingTests(UploadCase, FormCase):
    """
    Operations, and the events that they tell.
    """

    def serve(self, **options: Any) -> None:
        """
        Serve with somebody who wants to hear of everything.
        """
        self.sink = RecordingSink()
        super().serve(**{"events": self.sink, **options})
        self.sink.told.clear()

    def heard(self) -> list[Event]:
        """
        What was told since the last call.
        """
        told, self.sink.told = self.sink.told, []
        return told

    def names(self) -> list[tuple[str, str]]:
        """
        The same: names and keys.
        """
        return [(one.name.removeprefix("s3:"), one.key) for one in self.heard()]

    def test_operations(self) -> None:
        """
        Each operation tells what it has done, and nothing when it has done nothing.
        """
        for method, target, body, headers, expected in _OPERATIONS:
            self.serve()
            self.put("k")
            self.heard()
            answer = self.send(method, target, body, headers)
            self.assertEqual(bool(expected) and answer.status >= 300, False, answer.body)
            self.assertEqual(sorted(self.names()), sorted(expected), (method, target))

    def test_bucket(self) -> None:
        """
        An empty bucket that is removed is told, too.
        """
        self.send("DELETE", "/bucket", status=204)
        self.assertEqual(self.names(), [("BucketRemoved:*", "")])

    def test_upload(self) -> None:
        """
        An upload in parts is told once it is complete.
        """
        upload_id, listed = self.upload(b"one", b"two")
        self.assertEqual(self.names(), [])
        self.complete(upload_id, listed)
        self.assertEqual(self.names(), [("ObjectCreated:CompleteMultipartUpload", "k")])

    def test_form(self) -> None:
        """
        A form tells whose it was.
        """
        upload = super(UploadCase, self).upload
        upload({"key": "form"})
        (event,) = self.heard()
        self.assertEqual((event.name, event.key), ("s3:ObjectCreated:Post", "form"))
        self.assertEqual(event.principal, ROOT.access_key)

    def test_versions(self) -> None:
        """
        A deletion that hides an object is told as such, with the id of the marker, and the removal
        of a version with that of the version.
        """
        self.send("PUT", "/bucket?versioning", document("Enabled"), status=200)
        version = self.put("k").header("x-amz-version-id")
        (event,) = self.heard()
        self.assertEqual(event.version_id, version)
        marker = self.send("DELETE", at("bucket", "k")).header("x-amz-version-id")
        (event,) = self.heard()
        self.assertEqual(
            (event.name, event.version_id), ("s3:ObjectRemoved:DeleteMarkerCreated", marker)
        )
        for one in (version, marker):
            self.send("DELETE", at("bucket", "k", f"versionId={one}"), status=204)
            (event,) = self.heard()
            self.assertEqual((event.name, event.version_id), ("s3:ObjectRemoved:Delete", one))

    def test_locks(self) -> None:
        """
        Who sets or reads a retention or a legal hold is told as such.
        """
        self.send("PUT", "/locked", headers=ENABLED, status=200)
        self.send("PUT", at("locked", "k"), b"content", status=200)
        self.heard()
        documents = {
            "retention": ("Retention", retention("GOVERNANCE", self.soon())),
            "legal-hold": ("LegalHold", hold("ON")),
        }
        for name, (kind, body) in documents.items():
            target = at("locked", "k", name)
            self.send("GET", target, status=404)
            self.assertEqual(self.names(), [])
            self.send("PUT", target, b"<Wrong/>", _covered(b"<Wrong/>"), status=400)
            self.assertEqual(self.names(), [])
            self.send("PUT", target, body, _covered(body), status=200)
            self.assertEqual(self.names(), [(f"ObjectCreated:Put{kind}", "k")])
            self.send("GET", target, status=200)
            self.assertEqual(self.names(), [(f"ObjectAccessed:Get{kind}", "k")])

    def soon(self) -> str:
        """
        An instant to come, as clients write it.
        """
        return datetime.fromtimestamp(int(self.clock.seconds()) + 60, UTC).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        )

    def test_archive(self) -> None:
        """
        The entries of an archive are told one by one, as objects.
        """
        extract = {"x-amz-meta-snowball-auto-extract": "true"}
        self.send("PUT", at("bucket", "a.tar"), tree(), extract, status=200)
        told = self.names()
        self.assertEqual({name for name, _ in told}, {"ObjectCreated:Put"})
        self.assertIn("a/two", {key for _, key in told})

    def test_request(self) -> None:
        """
        An event tells the request that it comes from, and the object as it is.
        """
        answer = self.send(
            "PUT", at("bucket", "k"), b"content", {"User-Agent": "client/1", "x-amz-meta-a": "b"}
        )
        (event,) = self.heard()
        self.assertEqual(event.request_id, answer.header("x-amz-request-id"))
        self.assertEqual((event.principal, event.agent), (ROOT.access_key, "client/1"))
        self.assertEqual(event.source, "198.51.100.7")
        self.assertEqual(event.time, int(self.clock.seconds() * 1e9))
        assert event.info is not None
        self.assertEqual((event.info.size, event.info.metadata.user), (7, {"a": "b"}))
        self.assertEqual(f'"{event.info.etag}"', answer.header("ETag"))

    def test_nobody(self) -> None:
        """
        Where nobody wants to hear of a bucket, nothing is told.
        """
        self.serve(events=RecordingSink("told"))
        sink = self.front.events
        assert isinstance(sink, RecordingSink)
        self.put("k")
        self.assertEqual(sink.told, [])
