# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.snowball``, and for what reads archives: ``kypello.s3.tar``,
``kypello.s3.unpacking`` and ``kypello.s3.expanding``.
"""

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import tarfile
from collections.abc import Callable, Iterable
from importlib import import_module
from unittest import skipUnless

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from kypello.errors import BodyTruncated, Refused
from kypello.interfaces import IBodySource
from kypello.s3 import expanding, unpacking
from kypello.s3.expanding import ExpandedSource
from kypello.s3.tar import BLOCK, Kind
from kypello.s3.unpacking import Archive
from kypello.testing.fakes import BytesSource, InlineLane
from tests.cases import AsyncCase
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.locks import LockCase, configuration
from tests.s3.test_authorization import AuthorizationCase

_LONG = "folder/" + "n" * 250 + "/" + "ü" * 100
_TREE = {"one": b"1", "a/two": b"2" * 70_000, _LONG: b"3" * 513, "empty": b""}
_EXTRACT = {"x-amz-meta-snowball-auto-extract": "true"}


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE
) -> tuple[str, bytes, bytes]:
    """
    An entry of any kind.
    """
    return name, content, kind


def packed(entries: Iterable[tuple[str, bytes, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """
    An archive as Python makes it.
    """
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form) as archive:
        for name, content, kind in entries:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "target"
            archive.addfile(info, io.BytesIO(content))
    return written.getvalue()


def tree(form: int = tarfile.PAX_FORMAT) -> bytes:
    """
    An archive of some files.
    """
    return packed([member(name, content) for name, content in _TREE.items()], form)


def _of(module: str) -> Callable[[bytes], bytes] | None:
    """
    What compresses, if it is installed.
    """
    try:
        compress: Callable[[bytes], bytes] = import_module(module).compress
    except ImportError:
        return None
    return compress


_ZSTD, _LZ4 = _of("backports.zstd"), _of("lz4.frame")
_REQUIRED = bool(os.environ.get("KYPELLO_REQUIRE"))


async def unpacked(source: IBodySource) -> dict[str, tuple[Kind, bytes]]:
    """
    All that is in an archive.
    """
    archive, found = Archive.of(source), {}
    while (entry := await archive.next()) is not None:
        content = b""
        while block := await archive.content.read():
            content += bytes(block)
        found[entry.name] = entry.kind, content
    return found


class TarTests(AsyncCase):
    """
    Archives in pieces.
    """

    async def test_formats(self) -> None:
        """
        Files of each format are found, with long names, however the archive is cut.
        """
        expected = {name: (Kind.FILE, content) for name, content in _TREE.items()}
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            data = tree(form)
            for size in (511, 512, 4096, 1 << 20):
                blocks = [data[start : start + size] for start in range(0, len(data), size)]
                self.assertEqual(await unpacked(BytesSource(blocks)), expected)

    async def test_kinds(self) -> None:
        """
        Folders are told from files, and links and devices from both.
        """
        data = packed(
            [
                member("folder", kind=tarfile.DIRTYPE),
                member("link", kind=tarfile.SYMTYPE),
                member("hard", kind=tarfile.LNKTYPE),
                member("device", kind=tarfile.BLKTYPE),
                member("pipe", kind=tarfile.FIFOTYPE),
                member("file", b"content"),
            ]
        )
        found = await unpacked(BytesSource([data]))
        kinds = {name: kind for name, (kind, _content) in found.items()}
        others = dict.fromkeys(("link", "hard", "device", "pipe"), Kind.OTHER)
        self.assertEqual(kinds, {"folder": Kind.FOLDER, **others, "file": Kind.FILE})

    async def test_passed_over(self) -> None:
        """
        What nobody reads of a content is passed over.
        """
        archive = Archive.of(BytesSource([tree()]))
        names = []
        while (entry := await archive.next()) is not None:
            names.append(entry.name)
            await archive.content.read()
        self.assertEqual(names, list(_TREE))

    async def test_truncated(self) -> None:
        """
        An archive that ends anywhere before its end is refused.
        """
        data = tree()
        for size in (0, 1, BLOCK, BLOCK + 1, len(data) - 20 * BLOCK):
            with self.assertRaises(Refused):
                await unpacked(BytesSource([data[:size]]))

    async def test_source_fails(self) -> None:
        """
        What stops the source is told as it is.
        """
        with self.assertRaises(BodyTruncated):
            await unpacked(BytesSource([tree()[:700]], BodyTruncated()))

    async def test_hostile(self) -> None:
        """
        Damaged headers, records without length, sparse files, large headers, and too many of them
        are refused.
        """
        plain = packed([member("k", b"x")], tarfile.USTAR_FORMAT)
        sparse = packed([member("k", kind=tarfile.GNUTYPE_SPARSE)], tarfile.GNU_FORMAT)
        large = packed([member("x", bytes(2 << 20), tarfile.XHDTYPE)], tarfile.USTAR_FORMAT)
        empty = packed([member("x", b"", tarfile.XHDTYPE)], tarfile.USTAR_FORMAT)[:BLOCK]
        cases = [b"\x01" * 2048, plain[:100] + b"\xff" + plain[101:], sparse, large]
        cases.append(empty * 9 + plain)
        for record in (b"x", b"5 a", b"99 a=b\n", b"6 a=b", b"0 a=b\n", b"7 abcd\n", b"4 =\n\n"):
            cases.append(packed([member("x", record, tarfile.XHDTYPE), member("k")]))
        for text in (b"-1", b"x", b"9" * 30):
            line = b" size=%b\n" % text
            record = b"%d" % (len(line) + len(str(len(line) + 2))) + line
            cases.append(packed([member("x", record, tarfile.XHDTYPE), member("k")]))
        for number, data in enumerate(cases):
            with self.assertRaises(Refused, msg=f"case {number}"):
                await unpacked(BytesSource([data]))

    async def test_many(self) -> None:
        """
        An archive with too many entries is refused.
        """
        self.patch(unpacking, "MAX_ENTRIES", 3)
        data = packed([member(str(number)) for number in range(4)])
        with self.assertRaises(Refused):
            await unpacked(BytesSource([data]))

    @given(st.binary(max_size=3000), st.integers(0, 60))
    @settings(deadline=None, max_examples=200)
    def test_any(self, noise: bytes, place: int) -> None:
        """
        Whatever is written over an archive, it is read or refused.
        """
        data = tree()
        data = data[: place * 50] + noise + data[place * 50 + len(noise) :]
        reading = Deferred.fromCoroutine(unpacked(BytesSource([data])))
        reading.addErrback(lambda failure: failure.trap(Refused))
        self.successResultOf(reading)


class ExpandedTests(AsyncCase):
    """
    Compressed content.
    """

    async def expanded(self, data: bytes, size: int = 1 << 16) -> bytes:
        """
        What becomes of content.
        """
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        source = ExpandedSource(BytesSource(blocks), InlineLane())
        pieces = []
        while piece := await source.read():
            self.assertLessEqual(len(piece), expanding.PIECE)
            pieces.append(bytes(piece))
        return b"".join(pieces)

    async def each_way(self, compress: Callable[[bytes], bytes]) -> None:
        """
        See that compressed content is read, and damaged content is refused.
        """
        data = random.Random(1).randbytes(300_000) + bytes(5_000_000)
        for content in (b"", b"content", data):
            made = compress(content)
            for size in (7, 1 << 16) if len(content) < 100 else (1 << 16,):
                self.assertEqual(await self.expanded(made, size), content)
        self.assertEqual(await self.expanded(compress(b"one") + compress(b"two")), b"onetwo")
        made = compress(data)
        for wrong in (made[:-5], made[:100], made[:200] + b"\xff" * 50 + made[250:] + b"?" * 20):
            with self.assertRaises(Refused):
                await self.expanded(wrong)

    async def test_gzip(self) -> None:
        """
        gzip is read.
        """
        await self.each_way(gzip.compress)

    async def test_bzip2(self) -> None:
        """
        bzip2 is read.
        """
        await self.each_way(bz2.compress)

    async def test_xz(self) -> None:
        """
        xz is read.
        """
        await self.each_way(lambda data: lzma.compress(data, preset=0))

    @skipUnless(_ZSTD or _REQUIRED, "needs backports.zstd")
    async def test_zstd(self) -> None:
        """
        zstd is read.
        """
        assert _ZSTD is not None
        await self.each_way(_ZSTD)

    @skipUnless(_LZ4 or _REQUIRED, "needs lz4")
    async def test_lz4(self) -> None:
        """
        lz4 is read.
        """
        assert _LZ4 is not None
        await self.each_way(_LZ4)

    async def test_plain(self) -> None:
        """
        What is not compressed is given as it is.
        """
        for data in (b"", b"short", bytes(100_000)):
            self.assertEqual(await self.expanded(data), data)

    async def test_others(self) -> None:
        """
        Other kinds, and those whose package is missing, are refused and told.
        """
        for data, word in ((b"\xff\x06\x00\x00S2sTwO", "s2"), (b"PK\x03\x04" + bytes(20), "zip")):
            with self.assertRaises(Refused) as caught:
                await self.expanded(data)
            self.assertIn(word, caught.exception.message)
        self.patch(sys, "modules", {**sys.modules, "lz4.frame": None})
        with self.assertRaises(Refused) as caught:
            await self.expanded(b"\x04\x22\x4d\x18" + bytes(20))
        self.assertIn("package lz4", caught.exception.message)

    async def test_bomb(self) -> None:
        """
        What becomes too large is refused when it does, and not much of it is made.
        """
        self.patch(expanding, "START", 3_000_000)
        lane = InlineLane()
        source = ExpandedSource(BytesSource([gzip.compress(bytes(100_000_000))]), lane)
        with self.assertRaises(Refused) as caught:
            while await source.read():
                pass
        self.assertEqual(caught.exception.code, "EntityTooLarge")
        self.assertLess(lane.calls, 30)


class SnowballTests(FrontCase):
    """
    Archives over the wire.
    """

    def keys(self) -> list[str]:
        """
        What is stored.
        """
        return texts(read_xml(self.send("GET", "/bucket?list-type=2")), "Contents/Key")

    def unpack(self, data: bytes, status: int = 200, **headers: str) -> None:
        """
        Send an archive.

        :param headers: With underscores for hyphens, without the prefix of user metadata.
        """
        more = {f"x-amz-meta-{name.replace('_', '-')}": text for name, text in headers.items()}
        self.send("PUT", "/bucket/archive.tar", data, {**_EXTRACT, **more}, status=status)

    def test_entries(self) -> None:
        """
        Each file becomes an object like one that was stored by itself, and the archive none.
        """
        headers = {
            **_EXTRACT,
            "x-amz-meta-colour": "blue",
            "x-amz-tagging": "a=b",
            "x-amz-server-side-encryption": "AES256",
            "content-type": "application/x-tar",
            "content-encoding": "gzip",
        }
        self.send("PUT", "/bucket/a.tgz", gzip.compress(tree()), headers, status=200)
        self.assertEqual(self.keys(), sorted(_TREE))
        answer = self.send("GET", "/bucket/a/two", status=200)
        self.assertEqual(answer.body, _TREE["a/two"])
        self.assertEqual(answer.header("x-amz-meta-colour"), "blue")
        self.assertEqual(answer.header("x-amz-tagging-count"), "1")
        self.assertEqual(answer.header("x-amz-server-side-encryption"), "AES256")
        self.assertEqual(answer.header("content-type"), "binary/octet-stream")
        self.assertIsNone(answer.header("content-encoding"))
        self.assertIsNone(answer.header("x-amz-meta-snowball-auto-extract"))

    def test_options(self) -> None:
        """
        Keys get the prefix that is asked for; folders become objects unless they are left out.
        """
        data = packed([member("d", kind=tarfile.DIRTYPE), member("d/k", b"x")])
        self.unpack(data)
        self.unpack(data, minio_snowball_prefix="/p/q/", minio_snowball_ignore_dirs="true")
        self.assertEqual(self.keys(), ["d/", "d/k", "p/q/d/k"])

    def test_last_counts(self) -> None:
        """
        Of several entries of one name the last one stays.
        """
        self.unpack(packed([member("k", b"%d" % number) for number in range(50)]))
        self.assertEqual(self.send("GET", "/bucket/k").body, b"49")

    def test_hostile_names(self) -> None:
        """
        Names that lead out of the archive, or can be no key, are refused; or passed over.
        """
        for name in ("../k", "a/../../k", "/etc/passwd", "a/..", "n" * 1025, "\udcff", "./"):
            data = packed([member("good", b"1"), member(name, b"2"), member("later", b"3")])
            self.unpack(data, status=400)
            self.assertNotIn("later", self.keys())
            self.unpack(data, minio_snowball_ignore_errors="true")
            self.assertEqual(self.keys(), ["good", "later"])
            for key in ("good", "later"):
                self.send("DELETE", f"/bucket/{key}")

    def test_no_archive(self) -> None:
        """
        What is no archive, or a part of one, is refused also when errors are to be ignored.
        """
        for data in (b"text" * 200, tree()[: -BLOCK * 40], b"", gzip.compress(tree())[:-9]):
            self.unpack(data, status=400, minio_snowball_ignore_errors="true")

    def test_refused(self) -> None:
        """
        Conditions make no sense for many objects, an absent bucket is told, and a digest that does
        not match is.
        """
        for name in ("if-match", "if-none-match"):
            self.send("PUT", "/bucket/a", tree(), {**_EXTRACT, name: "*"}, status=501)
        self.send("PUT", "/nothing/a", tree(), _EXTRACT, status=404)
        wrong = {**_EXTRACT, "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
        self.send("PUT", "/bucket/a", tree(), wrong, status=400)

    def test_switched_off(self) -> None:
        """
        Without the word an archive is an object like others.
        """
        headers = {"x-amz-meta-snowball-auto-extract": "false"}
        self.send("PUT", "/bucket/a.tar", tree(), headers, status=200)
        self.assertEqual(self.keys(), ["a.tar"])


class PermissionTests(AuthorizationCase):
    """
    Who may store which entries.
    """

    def test_entries(self) -> None:
        """
        Each entry needs the right for its own key, and that for tags where there are any.
        """
        self.forbidden = {("s3:PutObject", "bucket/p/a/two")}
        headers = {**_EXTRACT, "x-amz-meta-minio-snowball-prefix": "p", "x-amz-tagging": "a=b"}
        self.send("PUT", "/bucket/a.tar", tree(), headers, status=403)
        headers["x-amz-meta-minio-snowball-ignore-errors"] = "true"
        self.send("PUT", "/bucket/a.tar", tree(), headers, status=200)
        found = texts(read_xml(self.send("GET", "/bucket?list-type=2")), "Contents/Key")
        self.assertEqual(found, sorted(f"p/{name}" for name in _TREE if name != "a/two"))
        self.forbidden = {("s3:PutObjectTagging", "bucket/p/one")}
        del headers["x-amz-meta-minio-snowball-ignore-errors"]
        self.send("PUT", "/bucket/a.tar", tree(), headers, status=403)


class LockTests(LockCase):
    """
    A bucket whose objects are locked.
    """

    def test_default(self) -> None:
        """
        Entries are locked like objects that were stored by themselves.
        """
        rule = configuration("<Days>1</Days>")
        self.send("PUT", "/locked?object-lock", rule, status=200)
        self.send("PUT", "/locked/a.tar", tree(), _EXTRACT, status=200)
        answer = self.send("HEAD", "/locked/one", status=200)
        self.assertEqual(answer.header("x-amz-object-lock-mode"), "GOVERNANCE")
