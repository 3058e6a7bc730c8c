# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.extensions``, over the wire.
"""

from collections.abc import Sequence
from urllib.parse import parse_qs

from attrs import evolve

from kypello.errors import BucketNotEmpty
from kypello.model import Identity
from kypello.s3.root import S3Resource
from kypello.testing.harness import Harness
from tests.s3.front import FrontCase, at, presigned, presigned_plainly, read_xml, texts
from tests.s3.rules import Rule

_FORCE = {"x-minio-force-delete": "true"}


class ExtensionCase(FrontCase):
    """
    A test of what is beyond S3.
    """

    def keys(self, bucket: str = "bucket") -> list[str]:
        """
        What there is.
        """
        return texts(read_xml(self.send("GET", f"/{bucket}", status=200)), "Contents/Key")

    def forbid(self, action: str, resources: Sequence[str]) -> None:
        """
        Let nobody do something, not even the root user.
        """

        def authorize(identity: Identity | None, asked: str, resource: str) -> bool:
            forbidden = asked == action and resource in resources
            return identity is not None and not forbidden

        front = evolve(self.front, authorizer=Rule(authorize))
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)


class ForcedTests(ExtensionCase):
    """
    Removal of everything below.
    """

    def test_prefix(self) -> None:
        """
        An object goes, with all that lies below it, and nothing else.
        """
        below = ["a", "a/", "a/b", "a//c", "a/d/e"]
        beside = ["", "ab", "a.b", "b/a/"]
        for key in (*below, *filter(None, beside)):
            self.put(key)
        self.send("DELETE", "/bucket/a", headers=_FORCE, status=204)
        self.assertEqual(self.keys(), ["a.b", "ab", "b/a/"])

    def test_slash(self) -> None:
        """
        A key that ends in a slash leaves the object of its name without one.
        """
        for key in ("a", "a/", "a/b", "a/b/c"):
            self.put(key)
        self.send("DELETE", "/bucket/a/", headers=_FORCE, status=204)
        self.assertEqual(self.keys(), ["a"])

    def test_absent(self) -> None:
        """
        What is not there is removed already; a bucket must be there.
        """
        self.send("DELETE", "/bucket/a", headers=_FORCE, status=204)
        self.refused("DELETE", "/absent/a", 404, "NoSuchBucket", headers=_FORCE)
        self.refused("DELETE", "/absent", 404, "NoSuchBucket", headers=_FORCE)

    def test_pages(self) -> None:
        """
        There may be more than one page of it.
        """
        for number in range(1005):
            self.put(f"p/{number}", b"")
        self.send("DELETE", "/bucket/p/", headers=_FORCE, status=204)
        self.assertEqual(self.keys(), [])

    def test_not_forced(self) -> None:
        """
        Any other value means an ordinary removal.
        """
        for value in ("false", "", "yes"):
            self.put("a")
            self.put("a/b")
            headers = {"x-minio-force-delete": value}
            self.send("DELETE", "/bucket/a", headers=headers, status=204)
            self.assertEqual(self.keys(), ["a/b"])
            self.refused("DELETE", "/bucket", 409, "BucketNotEmpty", headers=headers)

    def test_bucket(self) -> None:
        """
        A bucket goes with all that is in it.
        """
        for number in range(20):
            self.put(f"k{number}")
        self.send("DELETE", "/bucket", headers=_FORCE, status=204)
        self.refused("GET", "/bucket", 404, "NoSuchBucket")
        self.send("PUT", "/bucket", status=200)
        self.assertEqual(self.keys(), [])

    def test_filled_again(self) -> None:
        """
        A bucket that others go on filling stays.
        """

        class FullStore:
            """
            A store whose buckets are never empty.
            """

            def __getattr__(self, name: str) -> object:
                return getattr(store, name)

            async def delete_bucket(self, name: str) -> None:
                """
                Fail.
                """
                raise BucketNotEmpty(name)

        store = self.store
        front = evolve(self.front, store=FullStore())
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.refused("DELETE", "/bucket", 409, "BucketNotEmpty", headers=_FORCE)

    def test_permissions(self) -> None:
        """
        Each object is asked for, and a bucket has an action of its own.
        """
        for key in ("a", "a/b", "a/c"):
            self.put(key)
        self.forbid("s3:DeleteObject", ["bucket/a/b"])
        self.refused("DELETE", "/bucket/a", 403, "AccessDenied", headers=_FORCE)
        self.assertIn("a/b", self.keys())
        self.forbid("s3:ForceDeleteBucket", ["bucket"])
        self.refused("DELETE", "/bucket", 403, "AccessDenied", headers=_FORCE)

    def test_versions_denied(self) -> None:
        """
        Whoever may not remove versions removes none by force, neither alone nor with the bucket.
        """
        self.put("a")
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            self.forbid(action, ["bucket/a"])
            self.refused("DELETE", "/bucket/a", 403, "AccessDenied", headers=_FORCE)
            self.refused("DELETE", "/bucket", 403, "AccessDenied", headers=_FORCE)
        self.assertEqual(self.keys(), ["a"])

    def test_conditions(self) -> None:
        """
        Whoever names a version, or a condition, does not want all removed, and nothing is.
        """
        self.put("a")
        self.put("a/b")
        for name in ("if-match", "x-amz-if-match-size", "x-amz-if-match-last-modified-time"):
            headers = {**_FORCE, name: "1"}
            self.refused("DELETE", "/bucket/a", 400, "InvalidRequest", headers=headers)
        target = "/bucket/a?versionId=null"
        self.refused("DELETE", target, 400, "InvalidRequest", headers=_FORCE)
        self.assertEqual(self.keys(), ["a", "a/b"])

    def test_unsigned(self) -> None:
        """
        Whoever got a URL to remove one object cannot remove more with it.
        """
        self.put("a")
        self.put("a/b")
        forced = list(_FORCE.items())
        answer = self.plainly("DELETE", presigned("DELETE", "/bucket/a"), forced)
        self.assert_refused(answer, 403, "AccessDenied")
        answer = self.plainly("DELETE", presigned_plainly("DELETE", "/bucket/a"), forced)
        self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(self.keys(), ["a", "a/b"])


class MetadataTests(ExtensionCase):
    """
    Listings with metadata.
    """

    _V2 = "/bucket?list-type=2&metadata=true"
    _VERSIONS = "/bucket?versions&metadata=true"

    def setUp(self) -> None:
        """
        Have objects with metadata of all kinds.
        """
        super().setUp()
        self.put(
            "k",
            Content_Type="text/x-test",
            x_amz_meta_colour_OF_it="<blue & é>",
            x_amz_tagging="b=2+3&a=%C3%A9",
            x_amz_server_side_encryption="AES256",
        )
        self.send("PUT", at("bucket", "odd"), b"", {"x-amz-meta-a!b": "1", "x-amz-meta-c": "2"})

    def test_shown(self) -> None:
        """
        User metadata are elements in the spelling of Go, tags a query.
        """
        for target, entry in ((self._V2, "Contents"), (self._VERSIONS, "Version")):
            tree = read_xml(self.send("GET", target, status=200))
            first = f"{entry}[1]"
            self.assertEqual(
                texts(tree, f"{first}/UserMetadata/X-Amz-Meta-Colour-Of-It"), ["<blue & é>"]
            )
            self.assertEqual(texts(tree, f"{first}/UserMetadata/content-type"), ["text/x-test"])
            (tags,) = texts(tree, f"{first}/UserTags")
            self.assertEqual(parse_qs(tags), {"a": ["é"], "b": ["2 3"]})

    def test_odd_names(self) -> None:
        """
        A name that can be no element is left out, and breaks nothing.
        """
        tree = read_xml(self.send("GET", self._V2, status=200))
        names = [element.tag for element in tree.findall("Contents[2]/UserMetadata/*")]
        self.assertEqual(names, ["content-type", "X-Amz-Meta-C"])
        self.assertEqual(texts(tree, "Contents[2]/UserTags"), [])

    def test_not_asked(self) -> None:
        """
        Who does not ask is told nothing; the first form of listings has no such thing.
        """
        for target in (
            "/bucket?list-type=2",
            "/bucket?list-type=2&metadata=false",
            "/bucket?metadata=true",
            "/bucket?versions",
        ):
            body = self.send("GET", target, status=200).body
            self.assertNotIn(b"User", body)

    def test_permissions(self) -> None:
        """
        Who may not read an object is not told its metadata, nor its tags.
        """
        self.forbid("s3:GetObjectTagging", ["bucket/k"])
        tree = read_xml(self.send("GET", self._V2, status=200))
        self.assertEqual(len(tree.findall("Contents/UserMetadata")), 2)
        self.assertEqual(len(tree.findall("Contents/UserTags")), 0)
        self.forbid("s3:GetObject", ["bucket/k"])
        tree = read_xml(self.send("GET", self._V2, status=200))
        self.assertEqual(len(tree.findall("Contents[1]/UserMetadata")), 0)
        self.assertEqual(len(tree.findall("Contents[2]/UserMetadata")), 1)
