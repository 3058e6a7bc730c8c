# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.deletion``, over the wire.
"""

from base64 import b64encode
from hashlib import md5
from xml.sax.saxutils import escape

from kypello.testing.harness import Answer
from tests.s3.front import FrontCase, presigned, read_xml, texts


def listing(*keys: str, more: str = "") -> bytes:
    """
    A list of keys.
    """
    entries = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    return f"<Delete>{more}{entries}</Delete>".encode()


class DeletionTests(FrontCase):
    """
    The removal of many objects.
    """

    def delete(self, body: bytes) -> Answer:
        """
        Send a list, which its signature covers.
        """
        return self.send("POST", "/bucket?delete", body, status=200)

    def test_delete(self) -> None:
        """
        All keys are reported in order, whether or not there was an object.
        """
        keys = ["b", "a", " blanks ", "<&>", "line\r", "absent", "\x7f😀"]
        for key in keys:
            if key != "absent":
                self.put(key)
        self.put("other")
        body = listing(*keys).replace(b"\r", b"&#13;")
        for _ in range(2):
            answer = self.delete(body)
            self.assertEqual(texts(read_xml(answer), "Deleted/Key"), keys)
        self.assertIn(b"line&#xD;", answer.body)
        left = read_xml(self.send("GET", "/bucket"))
        self.assertEqual(texts(left, "Contents/Key"), ["other"])

    def test_quiet(self) -> None:
        """
        A quiet removal reports failures only.
        """
        body = listing("a", "x" * 1025, more="<Quiet>true</Quiet>")
        tree = read_xml(self.delete(body))
        self.assertEqual([child.tag for child in tree], ["Error"])
        self.assertEqual(tree.findtext("Error/Code"), "KeyTooLongError")

    def test_versions(self) -> None:
        """
        The null version can be named, others are not known.
        """
        self.put("a")
        self.put("b")
        body = (
            b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            b"<Object><Key>a</Key><VersionId>null</VersionId></Object>"
            b"<Object><Key>b</Key><VersionId>x</VersionId></Object></Delete>"
        )
        tree = read_xml(self.delete(body))
        self.assertEqual(tree.findtext("Deleted/Key"), "a")
        self.assertEqual(tree.findtext("Deleted/VersionId"), "null")
        self.assertEqual(tree.findtext("Error/Key"), "b")
        self.assertEqual(tree.findtext("Error/VersionId"), "x")
        self.assertEqual(tree.findtext("Error/Code"), "NoSuchVersion")
        self.send("GET", "/bucket/b", status=200)

    def test_conditions(self) -> None:
        """
        An entry may name the entity tag that the object must have.
        """
        etag = self.put("k").header("ETag") or ""
        entry = "<Delete><Object><Key>k</Key><ETag>{}</ETag></Object></Delete>"
        tree = read_xml(self.delete(entry.format('"other"').encode()))
        self.assertEqual(tree.findtext("Error/Code"), "PreconditionFailed")
        for condition in ("<Size>7</Size>", "<LastModifiedTime>x</LastModifiedTime>"):
            body = f"<Delete><Object><Key>k</Key>{condition}</Object></Delete>".encode()
            tree = read_xml(self.delete(body))
            self.assertEqual(tree.findtext("Error/Code"), "NotImplemented")
        tree = read_xml(self.delete(entry.format(etag).encode()))
        self.assertEqual(tree.findtext("Deleted/Key"), "k")

    def test_many(self) -> None:
        """
        A list names 1 to 1000 keys.
        """
        keys = [f"key-{number}" for number in range(1000)]
        for key in keys[:40]:
            self.put(key)
        self.assertEqual(texts(read_xml(self.delete(listing(*keys))), "Deleted/Key"), keys)
        self.put("k")
        for body in (listing(*keys, "k"), listing()):
            self.refused("POST", "/bucket?delete", 400, "MalformedXML", body=body)
        self.send("GET", "/bucket/k", status=200)

    def test_malformed(self) -> None:
        """
        Nothing is removed by a list that cannot be read.
        """
        self.put("k")
        for body in (
            b"<",
            b"<Other><Object><Key>k</Key></Object></Other>",
            b"<Delete><Object><Key>k</Key></Object>",
            b"<Delete><Object><Key>k</Key></Object><Object/></Delete>",
            b"<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>",
            b"<Delete><Object><Key>k<b/></Key></Object></Delete>",
            b"<Delete><Object><Key>k</Key></Object>text</Delete>",
            b"<Delete><Object><Key>k</Key></Object><Quiet>maybe</Quiet></Delete>",
            b"<!DOCTYPE Delete><Delete><Object><Key>k</Key></Object></Delete>",
            b'<!DOCTYPE d [<!ENTITY e "k">]><Delete><Object><Key>&e;</Key></Object></Delete>',
        ):
            self.refused("POST", "/bucket?delete", 400, "MalformedXML", body=body)
        self.refused("POST", "/bucket?delete", 400, "MissingRequestBodyError")
        self.send("GET", "/bucket/k", status=200)

    def test_integrity(self) -> None:
        """
        Something must cover the list, and must match.
        """
        self.put("k")
        body = listing("k")
        good = b64encode(md5(body).digest()).decode()
        target = presigned("POST", "/bucket?delete")
        self.assert_refused(self.plainly("POST", target, [], body), 400, "InvalidRequest")
        loose = presigned("POST", "/bucket?delete&x-amz-checksum-mode=ENABLED")
        self.assert_refused(self.plainly("POST", loose, [], body), 400, "InvalidRequest")
        bad = [("Content-MD5", "A" * 22 + "==")]
        self.assert_refused(self.plainly("POST", target, bad, body), 400, "BadDigest")
        self.send("GET", "/bucket/k", status=200)
        answer = self.plainly("POST", target, [("Content-MD5", good)], body)
        self.assertEqual(answer.status, 200)
        self.refused("GET", "/bucket/k", 404, "NoSuchKey")

    def test_limits(self) -> None:
        """
        A list that is too long is refused by its announced size.
        """
        body = listing("k", more=" " * 2**21)
        self.refused("POST", "/bucket?delete", 400, "MaxMessageLengthExceeded", body=body)

    def test_absent(self) -> None:
        """
        The bucket must exist.
        """
        self.refused("POST", "/absent?delete", 404, "NoSuchBucket", body=listing("k"))

    def test_anonymous(self) -> None:
        """
        Nobody removes anything without a signature.
        """
        self.put("k")
        answer = self.plainly("POST", "/bucket?delete", [], listing("k"))
        self.assert_refused(answer, 403, "AccessDenied")
