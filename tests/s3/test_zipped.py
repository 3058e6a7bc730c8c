# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.zipped`` and ``kypello.s3.zip``.
"""

import io
import random
import zipfile
from collections.abc import Mapping
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.web.client import ResponseFailed

from kypello.errors import NotAuthentic, Refused
from kypello.s3.zip import TAIL, Member, find_directory, read_directory
from tests.cases import SyncCase
from tests.s3.front import read_xml, signed, texts
from tests.s3.test_authorization import AuthorizationCase

_FILES = {
    "one.txt": b"first",
    "folder/": b"",
    "folder/two.json": b"2" * 100_000,
    "folder/deep/three": b"",
    "folder/zeros": bytes(5_000_000),
    "ü/four": random.Random(4).randbytes(3_000_000),
}
_INSIDE = {"x-minio-extract": "true"}


def zipped(
    files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    """
    An archive as Python makes it.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        archive.comment = comment
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def members(data: bytes) -> dict[str, Member]:
    """
    What is in an archive.
    """
    directory = find_directory(data[-TAIL:], len(data))
    return read_directory(data[directory.start : directory.start + directory.size])


class DirectoryTests(SyncCase):
    """
    The directory of archives.
    """

    def test_members(self) -> None:
        """
        All files are found, also behind a comment and behind something else.
        """
        for data in (zipped(_FILES), zipped(_FILES, comment=b"PK" * 30_000)):
            found = {name: member.size for name, member in members(data).items()}
            self.assertEqual(found, {name: len(content) for name, content in _FILES.items()})
        self.assertEqual(members(zipped({})), {})

    def test_large(self) -> None:
        """
        Archives of the large form are read.
        """
        self.patch(zipfile, "ZIP64_LIMIT", 10)
        self.patch(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
        data = zipped(_FILES)
        self.assertIn(b"PK\x06\x06", data)
        self.assertEqual(
            {name: member.size for name, member in members(data).items()},
            {name: len(content) for name, content in _FILES.items()},
        )

    def test_hostile(self) -> None:
        """
        What is no archive is refused, and so is one with too many files or several parts.
        """
        data = zipped(_FILES)
        end = data.rindex(b"PK\x05\x06")
        for wrong in (
            b"",
            b"text",
            data[:-1],
            data[: end + 4] + b"\1\0" + data[end + 6 :],
            data[: end + 12] + b"\xff\xff\xff\x7f" + data[end + 16 :],
            data[: end + 16] + b"\xff\xff\xff\x7f" + data[end + 20 :],
            data[: end + 12] + b"\x01\0\0\0" + data[end + 16 :],
        ):
            with self.assertRaises(Refused):
                members(wrong)

    @given(st.binary(min_size=1, max_size=40), st.integers(0, 400))
    @settings(deadline=None, max_examples=300)
    def test_any(self, noise: bytes, place: int) -> None:
        """
        Whatever is written over the directory of an archive, it is read or refused.
        """
        data = zipped({"one": b"1", "two/three": b"23"})
        place = max(0, len(data) - place)
        data = data[:place] + noise + data[place + len(noise) :]
        try:
            found = members(data)
        except Refused:
            return
        self.assertIsInstance(found, dict)


class InsideTests(AuthorizationCase):
    """
    Requests that lead into archives.
    """

    def setUp(self) -> None:
        """
        Store an archive, encrypted.
        """
        super().setUp()
        self.data = zipped(_FILES)
        headers = {"x-amz-server-side-encryption": "AES256"}
        self.send("PUT", "/bucket/a.zip", self.data, headers, status=200)

    def test_read(self) -> None:
        """
        Each file is read and told, stored or deflated, with a type by its name.
        """
        self.send("PUT", "/bucket/dir/b.zip", zipped(_FILES, zipfile.ZIP_STORED), status=200)
        for archive in ("a.zip", "dir/b.zip"):
            for name, content in _FILES.items():
                target = f"/bucket/{archive}/{name}".replace("ü", "%C3%BC")
                answer = self.send("GET", target, headers=_INSIDE, status=200)
                self.assertEqual(answer.body, content)
                told = self.send("HEAD", target, headers=_INSIDE, status=200)
                self.assertEqual(told.header("content-length"), str(len(content)))
                self.assertEqual(told.header("etag"), answer.header("etag"))
        answer = self.send("GET", "/bucket/a.zip/folder/two.json", headers=_INSIDE)
        self.assertEqual(answer.header("content-type"), "application/json")
        self.assertEqual(answer.header("x-amz-server-side-encryption"), "AES256")

    def test_ranges(self) -> None:
        """
        A range of a file is a range of its content.
        """
        content = _FILES["ü/four"]
        for start, stop in ((0, 1), (5, 2_500_000), (2_999_999, 3_000_000)):
            headers = {**_INSIDE, "range": f"bytes={start}-{stop - 1}"}
            answer = self.send("GET", "/bucket/a.zip/%C3%BC/four", headers=headers, status=206)
            self.assertEqual(answer.body, content[start:stop])
        headers = {**_INSIDE, "range": "bytes=9-"}
        self.send("GET", "/bucket/a.zip/one.txt", headers=headers, status=416)

    def test_conditions(self) -> None:
        """
        A file that the client has is not sent again.
        """
        etag = self.send("GET", "/bucket/a.zip/one.txt", headers=_INSIDE).header("etag") or ""
        headers = {**_INSIDE, "if-none-match": etag}
        self.send("GET", "/bucket/a.zip/one.txt", headers=headers, status=304)
        headers = {**_INSIDE, "if-match": '"other"'}
        self.send("GET", "/bucket/a.zip/one.txt", headers=headers, status=412)

    def test_elsewhere(self) -> None:
        """
        Without the word, or without an archive in the key, objects are read as they are.
        """
        self.send("PUT", "/bucket/a.zip/one.txt", b"an object", status=200)
        self.assertEqual(self.send("GET", "/bucket/a.zip/one.txt").body, b"an object")
        self.assertEqual(self.send("GET", "/bucket/a.zip", headers=_INSIDE).body, self.data)

    def test_absent(self) -> None:
        """
        A file that is not in the archive is absent, like an archive that is none of the bucket.
        """
        for key in ("a.zip/none", "a.zip/", "none.zip/one.txt"):
            self.send("GET", f"/bucket/{key}", headers=_INSIDE, status=404)
        self.send("PUT", "/bucket/text.zip", b"text", status=200)
        self.send("GET", "/bucket/text.zip/one.txt", headers=_INSIDE, status=400)

    def test_damaged(self) -> None:
        """
        A file that is damaged, or lies about its size, is not given as if it were well.
        """
        data = bytearray(zipped({"k": b"content" * 100}, zipfile.ZIP_STORED))
        data[40] ^= 1
        self.send("PUT", "/bucket/b.zip", bytes(data), status=200)
        self.send("GET", "/bucket/b.zip/k", headers=_INSIDE, status=500)
        data = bytearray(zipped({"k": bytes(1_000_000)}))
        place = data.index(b"PK\x01\x02") + 24
        for size in (10, 2_000_000):
            data[place : place + 4] = size.to_bytes(4, "little")
            self.send("PUT", "/bucket/c.zip", bytes(data), status=200)
            lines = signed("GET", "/bucket/c.zip/k", _INSIDE, b"")
            reading = self.harness.request("GET", "/bucket/c.zip/k", lines)
            reading.addCallback(lambda answer: self.assertEqual(answer.status, 500))
            # Once a part was sent, nothing but a connection that is cut tells it.
            reading.addErrback(lambda failure: failure.trap(ResponseFailed))
            self.successResultOf(reading)
        self.flushLoggedErrors(NotAuthentic)
        data = bytearray(zipped({"k": b"content"}))
        data[data.index(b"PK\x01\x02") + 8] |= 1
        self.send("PUT", "/bucket/d.zip", bytes(data), status=200)
        self.send("GET", "/bucket/d.zip/k", headers=_INSIDE, status=501)
        self.send("HEAD", "/bucket/d.zip/k", headers=_INSIDE, status=200)

    def test_permissions(self) -> None:
        """
        Who may not read the archive reads nothing in it.
        """
        self.forbidden.add(("s3:GetObject", "bucket/a.zip"))
        for method in ("GET", "HEAD"):
            self.send(method, "/bucket/a.zip/one.txt", headers=_INSIDE, status=403)
        target = "/bucket?list-type=2&prefix=a.zip%2F"
        self.send("GET", target, headers=_INSIDE, status=403)
        self.forbidden = {("s3:GetObject", "bucket/a.zip/one.txt")}
        self.send("GET", "/bucket/a.zip/one.txt", headers=_INSIDE, status=200)

    def test_list(self) -> None:
        """
        The files of an archive are listed like objects, by prefix, in groups, and in pages.
        """

        def listed(query: str) -> tuple[list[str], list[str]]:
            """
            Keys and groups of a page.
            """
            tree = read_xml(
                self.send("GET", f"/bucket?list-type=2&{query}", headers=_INSIDE, status=200)
            )
            return texts(tree, "Contents/Key"), texts(tree, "CommonPrefixes/Prefix")

        keys = sorted((f"a.zip/{name}" for name in _FILES), key=str.encode)
        self.assertEqual(listed("prefix=a.zip%2F"), (keys, []))
        groups = (["a.zip/one.txt"], ["a.zip/folder/", "a.zip/ü/"])
        self.assertEqual(listed("prefix=a.zip%2F&delimiter=%2F"), groups)
        within = (
            ["a.zip/folder/", "a.zip/folder/two.json", "a.zip/folder/zeros"],
            ["a.zip/folder/deep/"],
        )
        self.assertEqual(listed("prefix=a.zip%2Ffolder%2F&delimiter=%2F"), within)
        self.assertEqual(listed("prefix=a.zip%2Fnone"), ([], []))
        self.assertEqual(listed("prefix=a.zip%2F&max-keys=0"), ([], []))
        for delimiter in ("", "&delimiter=%2F"):
            found: list[str] = []
            query = f"prefix=a.zip%2F&max-keys=1{delimiter}"
            while True:
                page = self.send("GET", f"/bucket?list-type=2&{query}", headers=_INSIDE, status=200)
                tree = read_xml(page)
                found += texts(tree, "Contents/Key") + texts(tree, "CommonPrefixes/Prefix")
                following = texts(tree, "NextContinuationToken")
                if not following:
                    break
                token = quote(following[0], safe="")
                query = f"prefix=a.zip%2F&max-keys=1{delimiter}&continuation-token={token}"
            expected = keys if not delimiter else sorted(groups[0] + groups[1], key=str.encode)
            self.assertEqual(found, expected)
        tree = read_xml(self.send("GET", "/bucket?list-type=2&prefix=a.zip%2F"))
        self.assertEqual(texts(tree, "Contents/Key"), [])
