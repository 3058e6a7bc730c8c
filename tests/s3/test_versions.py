# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of versions of objects, over the wire.
"""

from urllib.parse import quote
from xml.etree.ElementTree import Element

from kypello.testing.harness import Answer
from tests.s3.front import FrontCase, at, read_xml, texts
from tests.s3.test_versioning import document

_SEALED = {"x-amz-server-side-encryption": "AES256"}


class VersionsCase(FrontCase):
    """
    A test with a bucket that has versions.
    """

    def setUp(self) -> None:
        """
        Enable versioning.
        """
        super().setUp()
        self.switch("Enabled")

    def switch(self, status: str) -> None:
        """
        Enable or suspend versioning.
        """
        self.send("PUT", "/bucket?versioning", document(status), status=200)

    def made(self, key: str, body: bytes = b"content", **headers: str) -> str:
        """
        Store a version, and give its id.
        """
        return self.told(self.put(key, body, **headers))

    def told(self, answer: Answer) -> str:
        """
        The version that an answer tells.
        """
        version_id = answer.header("x-amz-version-id")
        assert version_id is not None, answer
        return version_id

    def deleted(self, key: str, version_id: str = "") -> str:
        """
        Delete an object, whose marker is told, or a version, which is.
        """
        query = version_id and f"versionId={version_id}"
        return self.told(self.send("DELETE", at("bucket", key, query), status=204))

    def listed(self, query: str = "") -> Element:
        """
        A page of versions.
        """
        return read_xml(self.send("GET", f"/bucket?versions{query}", status=200))

    def ids(self, query: str = "") -> list[str]:
        """
        The ids of a page of versions, in the order of the document.
        """
        tree = self.listed(query)
        entries = [each for each in tree if each.tag in ("Version", "DeleteMarker")]
        return [each.findtext("VersionId") or "" for each in entries]


class ObjectTests(VersionsCase):
    """
    Operations on one object.
    """

    def test_writes(self) -> None:
        """
        Each write tells its version, and each version can be read.
        """
        for sealed in ({}, _SEALED):
            ids = []
            for body in (b"one", b"two" * 10_000):
                answer = self.send("PUT", "/bucket/k", body, sealed, status=200)
                ids.append((self.told(answer), body))
            for version_id, body in ids:
                for method in ("GET", "HEAD"):
                    answer = self.send(method, f"/bucket/k?versionId={version_id}", status=200)
                    self.assertEqual(self.told(answer), version_id)
                    self.assertEqual(answer.header("Content-Length"), str(len(body)))
                self.assertEqual(self.send("GET", f"/bucket/k?versionId={version_id}").body, body)
            answer = self.send("GET", "/bucket/k?versionId=", status=200)
            self.assertEqual((self.told(answer), answer.body), ids[-1])
            unchanged = {"If-None-Match": answer.header("ETag") or ""}
            answer = self.send("GET", "/bucket/k", headers=unchanged, status=304)
            self.assertEqual(self.told(answer), ids[-1][0])

    def test_markers(self) -> None:
        """
        Who meets a delete marker is told so.
        """
        first = self.made("k")
        answer = self.send("DELETE", "/bucket/k", status=204)
        self.assertEqual(answer.header("x-amz-delete-marker"), "true")
        marker = self.told(answer)
        for method in ("GET", "HEAD"):
            answer = self.send(method, "/bucket/k", status=404)
            self.assertEqual(answer.header("x-amz-delete-marker"), "true")
            self.assertEqual(self.told(answer), marker)
            answer = self.send(method, f"/bucket/k?versionId={marker}", status=405)
            self.assertEqual(answer.header("x-amz-delete-marker"), "true")
            self.assertEqual(answer.header("Allow"), "DELETE")
            self.assertTrue(answer.header("Last-Modified"))
        self.refused("GET", f"/bucket/k?versionId={marker}", 405, "MethodNotAllowed")
        self.assertIsNone(self.send("GET", "/bucket/x").header("x-amz-delete-marker"))
        answer = self.send("DELETE", f"/bucket/k?versionId={marker}", status=204)
        self.assertEqual(answer.header("x-amz-delete-marker"), "true")
        self.assertEqual(self.told(answer), marker)
        self.assertEqual(self.told(self.send("GET", "/bucket/k", status=200)), first)
        answer = self.send("DELETE", f"/bucket/k?versionId={first}", status=204)
        self.assertIsNone(answer.header("x-amz-delete-marker"))
        self.assertEqual(self.told(answer), first)
        self.assertEqual(self.ids(), [])

    def test_absent(self) -> None:
        """
        A version that is not there, and an id that is none.
        """
        self.put("k")
        absent = "0" * 32
        for key in ("k", "x"):
            for query in ("", "&attributes", "&tagging", "&acl"):
                headers = {"x-amz-object-attributes": "ETag"}
                target = f"/bucket/{key}?versionId={absent}{query}"
                tree = self.refused("GET", target, 404, "NoSuchVersion", headers=headers)
                self.assertEqual(tree.findtext("VersionId"), absent)
                target = f"/bucket/{key}?versionId=x{query}"
                self.refused("GET", target, 400, "InvalidArgument", headers=headers)
            self.assertEqual(self.deleted(key, absent), absent)
            self.refused("DELETE", f"/bucket/{key}?versionId=x", 400, "InvalidArgument")

    def test_suspended(self) -> None:
        """
        What is written while it is suspended has the id null.
        """
        first = self.made("k", b"1")
        self.switch("Suspended")
        for body in (b"2", b"3"):
            self.assertEqual(self.made("k", body), "null")
        self.assertEqual(self.ids(), ["null", first])
        self.assertEqual(self.told(self.send("GET", "/bucket/k")), "null")
        self.assertEqual(self.deleted("k"), "null")
        self.assertEqual(self.ids(), ["null", first])
        self.send("GET", "/bucket/k?versionId=null", status=405)

    def test_conditions(self) -> None:
        """
        Conditions are about the current version, and a delete marker is none.
        """
        first = self.put("k", b"1").header("ETag") or ""
        self.put("k", b"2")
        self.refused("PUT", "/bucket/k", 412, "PreconditionFailed", headers={"If-Match": first})
        self.deleted("k")
        self.refused("PUT", "/bucket/k", 404, "NoSuchKey", headers={"If-Match": "*"})
        self.send("PUT", "/bucket/k", b"3", {"If-None-Match": "*"}, status=200)

    def test_tags(self) -> None:
        """
        Tags are those of a version.
        """
        first = self.made("k", x_amz_tagging="a=1")
        second = self.made("k", x_amz_tagging="b=2")
        body = b"<Tagging><TagSet><Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>"
        for query, version_id in (("", second), (f"&versionId={first}", first)):
            answer = self.send("PUT", f"/bucket/k?tagging{query}", body, status=200)
            self.assertEqual(self.told(answer), version_id)
            answer = self.send("GET", f"/bucket/k?tagging{query}", status=200)
            self.assertEqual(self.told(answer), version_id)
            self.assertEqual(texts(read_xml(answer), "TagSet/Tag/Key"), ["c"])
            answer = self.send("DELETE", f"/bucket/k?tagging{query}", status=204)
            self.assertEqual(self.told(answer), version_id)
        self.assertEqual(self.ids(), [second, first])
        marker = self.deleted("k")
        for method in ("GET", "PUT", "DELETE"):
            self.refused(method, "/bucket/k?tagging", 404, "NoSuchKey", body=body)
            target = f"/bucket/k?tagging&versionId={marker}"
            self.refused(method, target, 405, "MethodNotAllowed", body=body)

    def test_attributes(self) -> None:
        """
        Attributes are those of a version.
        """
        first = self.made("k", b"1")
        second = self.made("k", b"22")
        for query, version_id, size in (("", second, "2"), (f"&versionId={first}", first, "1")):
            headers = {"x-amz-object-attributes": "ObjectSize"}
            answer = self.send("GET", f"/bucket/k?attributes{query}", headers=headers, status=200)
            self.assertEqual(self.told(answer), version_id)
            self.assertEqual(read_xml(answer).findtext("ObjectSize"), size)

    def test_uploads(self) -> None:
        """
        Each upload makes a version, and tells it again when it is asked again.
        """
        ids = []
        for body in (b"one", b"two"):
            begun = read_xml(self.send("POST", "/bucket/k?uploads", status=200))
            upload = f"uploadId={begun.findtext('UploadId')}"
            part = self.send("PUT", f"/bucket/k?partNumber=1&{upload}", body, status=200)
            listed = (
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
                f"<ETag>{part.header('ETag')}</ETag></Part></CompleteMultipartUpload>"
            ).encode()
            ids.append(self.told(self.send("POST", f"/bucket/k?{upload}", listed, status=200)))
            self.put("k")
            again = self.send("POST", f"/bucket/k?{upload}", listed, status=200)
            self.assertEqual(self.told(again), ids[-1])
        for version_id, body in zip(ids, (b"one", b"two"), strict=True):
            answer = self.send("GET", f"/bucket/k?versionId={version_id}&partNumber=1", status=206)
            self.assertEqual(answer.body, body)

    def test_odd_keys(self) -> None:
        """
        Keys of all kinds have versions.
        """
        for key in ("_x", ":", " ", "a/", "é\x01"):
            ids = [self.made(key, b"1"), self.made(key, b"2")]
            for version_id in ids:
                self.send("GET", at("bucket", key, f"versionId={version_id}"), status=200)
            for version_id in ids:
                self.deleted(key, version_id)
        self.send("DELETE", "/bucket", status=204)


class CopyTests(VersionsCase):
    """
    Copies of versions.
    """

    def copy(self, target: str, source: str, status: int = 200) -> Answer:
        """
        Copy something.
        """
        headers = {"x-amz-copy-source": quote(source, safe="/?=")}
        return self.send("PUT", f"/bucket/{target}", headers=headers, status=status)

    def test_copied(self) -> None:
        """
        A named version is copied, also onto its own key, where it becomes the current one.
        """
        first = self.made("k", b"1", x_amz_tagging="a=1")
        second = self.made("k", b"2")
        answer = self.copy("k", f"bucket/k?versionId={first}")
        self.assertEqual(answer.header("x-amz-copy-source-version-id"), first)
        third = self.told(answer)
        self.assertEqual(self.ids(), [third, second, first])
        self.assertEqual(self.send("GET", "/bucket/k").body, b"1")
        answer = self.copy("other", "bucket/k")
        self.assertEqual(answer.header("x-amz-copy-source-version-id"), third)
        self.send("PUT", "/plain", status=200)
        headers = {"x-amz-copy-source": "bucket/k"}
        answer = self.send("PUT", "/plain/k", headers=headers, status=200)
        self.assertIsNone(answer.header("x-amz-version-id"))
        self.assertEqual(answer.header("x-amz-copy-source-version-id"), third)
        answer = self.copy("k2", "plain/k")
        self.assertIsNone(answer.header("x-amz-copy-source-version-id"))

    def test_key_with_mark(self) -> None:
        """
        A key that holds a question mark can be copied, also by version.
        """
        first = self.made("a?versionId=b", b"1")
        self.made("a?versionId=b", b"2")
        headers = {"x-amz-copy-source": f"bucket/a%3FversionId%3Db?versionId={first}"}
        self.send("PUT", "/bucket/k", headers=headers, status=200)
        self.assertEqual(self.send("GET", "/bucket/k").body, b"1")

    def test_refused(self) -> None:
        """
        Delete markers, and versions that are not there, are not copied.
        """
        self.made("k")
        marker = self.deleted("k")
        for source, status, code in (
            ("bucket/k", 404, "NoSuchKey"),
            (f"bucket/k?versionId={marker}", 400, "InvalidRequest"),
            (f"bucket/k?versionId={'0' * 32}", 404, "NoSuchVersion"),
            ("bucket/k?versionId=x", 400, "InvalidArgument"),
        ):
            answer = self.copy("target", source, status)
            self.assert_refused(answer, status, code)
            self.assertIsNone(answer.header("x-amz-delete-marker"))
        self.send("GET", "/bucket/target", status=404)

    def test_part(self) -> None:
        """
        A version becomes a part of an upload.
        """
        first = self.made("k", b"1")
        self.made("k", b"2")
        begun = read_xml(self.send("POST", "/bucket/new?uploads", status=200))
        target = f"/bucket/new?partNumber=1&uploadId={begun.findtext('UploadId')}"
        headers = {"x-amz-copy-source": f"bucket/k?versionId={first}"}
        answer = self.send("PUT", target, headers=headers, status=200)
        self.assertEqual(answer.header("x-amz-copy-source-version-id"), first)
        part = read_xml(answer).findtext("ETag")
        self.assertEqual(part, '"c4ca4238a0b923820dcc509a6f75849b"')


class ManyTests(VersionsCase):
    """
    Listings, and operations on many objects.
    """

    def test_listing(self) -> None:
        """
        Versions and delete markers are told in one order, with what is known of them.
        """
        first = self.made("a", b"1")
        second = self.made("a", b"22")
        marker = self.deleted("b")
        tree = self.listed()
        self.assertEqual(tree.tag, "ListVersionsResult")
        entries = [each for each in tree if each.tag in ("Version", "DeleteMarker")]
        found = [
            (each.tag, *(each.findtext(name) for name in ("Key", "VersionId", "IsLatest", "Size")))
            for each in entries
        ]
        self.assertEqual(
            found,
            [
                ("Version", "a", second, "true", "2"),
                ("Version", "a", first, "false", "1"),
                ("DeleteMarker", "b", marker, "true", None),
            ],
        )
        for entry in entries:
            self.assertTrue(entry.findtext("Owner/ID"))
            self.assertTrue((entry.findtext("LastModified") or "").endswith("Z"))
        self.assertEqual(texts(read_xml(self.send("GET", "/bucket")), "Contents/Key"), ["a"])

    def test_pages(self) -> None:
        """
        Pages of one follow each other; behind a group goes on what is behind it.
        """
        expected = []
        for key in ("a", "d/1", "d/2", "z"):
            ids = [self.made(key), self.made(key)]
            expected += [] if "/" in key else ids[::-1]
        found, query = [], ""
        for _ in range(6):
            tree = self.listed(f"&max-keys=1&delimiter=%2F{query}")
            found += texts(tree, "Version/VersionId")
            groups = texts(tree, "CommonPrefixes/Prefix")
            key, version = tree.findtext("NextKeyMarker"), tree.findtext("NextVersionIdMarker")
            self.assertEqual(bool(groups), key == "d/")
            if key is None:
                break
            query = f"&key-marker={quote(key, safe='')}"
            if groups:
                self.assertIsNone(version)
            else:
                query += f"&version-id-marker={version}"
        self.assertEqual(found, expected)
        self.assertEqual(tree.findtext("IsTruncated"), "false")
        target = "/bucket?versions&key-marker=a&version-id-marker=x"
        self.refused("GET", target, 400, "InvalidArgument")

    def delete(self, *entries: tuple[str, str], quiet: bool = False) -> Element:
        """
        Delete several versions.
        """
        objects = "".join(
            f"<Object><Key>{key}</Key>"
            + (version_id and f"<VersionId>{version_id}</VersionId>")
            + "</Object>"
            for key, version_id in entries
        )
        body = f"<Delete><Quiet>{str(quiet).lower()}</Quiet>{objects}</Delete>".encode()
        return read_xml(self.send("POST", "/bucket?delete", body, status=200))

    def test_delete_many(self) -> None:
        """
        Each entry tells what became of it.
        """
        first = self.made("a")
        tree = self.delete(("a", ""), ("absent", ""))
        markers = texts(tree, "Deleted/DeleteMarkerVersionId")
        self.assertEqual(texts(tree, "Deleted/DeleteMarker"), ["true", "true"])
        self.assertEqual(self.ids(), [markers[0], first, markers[1]])
        again = [("a", first), ("a", markers[0]), ("absent", markers[1]), ("a", "0" * 32)]
        for _ in range(2):
            tree = self.delete(*again, ("a", "x"))
            self.assertEqual(
                texts(tree, "Deleted/VersionId"), [version_id for _, version_id in again]
            )
            self.assertEqual(texts(tree, "Error/Code"), ["NoSuchVersion"])
            self.assertEqual(self.ids(), [])
        self.assertEqual(list(self.delete(("a", ""), quiet=True)), [])

    def test_bucket(self) -> None:
        """
        A bucket with versions, or delete markers, is not empty, and who removes it is told of them;
        it can be removed by force.
        """
        self.made("k")
        self.deleted("k")
        self.made("d/k")
        self.made("d")
        answer = self.send("DELETE", "/bucket", status=409)
        self.assertIn(b"<Code>BucketNotEmpty</Code>", answer.body)
        self.assertIn(b"You must delete all versions", answer.body)
        force = {"x-minio-force-delete": "true"}
        self.send("DELETE", "/bucket/d", headers=force, status=204)
        self.assertEqual(texts(self.listed(), "Version/Key"), ["k"])
        self.send("DELETE", "/bucket", headers=force, status=204)
        self.send("PUT", "/bucket", status=200)
        self.assertEqual(self.ids(), [])
        tree = read_xml(self.send("GET", "/bucket?versioning", status=200))
        self.assertIsNone(tree.findtext("Status"))
