# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.buckettags``, over the wire.
"""

from collections.abc import Mapping

from attrs import evolve

from kypello.model import Identity
from kypello.s3.root import S3Resource
from kypello.testing.harness import Harness
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.rules import Rule


def elements(tags: Mapping[str, str]) -> str:
    """
    The elements of tags.
    """
    return "".join(
        f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags.items()
    )


def tagging(tags: Mapping[str, str]) -> bytes:
    """
    The document of tags.
    """
    return f"<Tagging><TagSet>{elements(tags)}</TagSet></Tagging>".encode()


def creation(tags: Mapping[str, str]) -> bytes:
    """
    The document of a new bucket with tags.
    """
    return (
        f"<CreateBucketConfiguration><Tags>{elements(tags)}</Tags></CreateBucketConfiguration>"
    ).encode()


class BucketTagsTests(FrontCase):
    """
    The tags of a bucket.
    """

    target = "/bucket?tagging"

    def shown(self, target: str = "/bucket?tagging") -> dict[str, str]:
        """
        The tags, as they are shown.
        """
        tree = read_xml(self.send("GET", target, status=200))
        self.assertEqual(tree.tag, "Tagging")
        keys, values = (texts(tree, f"TagSet/Tag/{name}") for name in ("Key", "Value"))
        return dict(zip(keys, values, strict=True))

    def test_life(self) -> None:
        """
        They can be set, replaced as a whole, shown and removed, and objects have none of them.
        """
        self.refused("GET", self.target, 404, "NoSuchTagSet")
        self.put("k")
        for tags in ({"b": "1", "a": ""}, {"a": "x/y z"}, {}):
            self.assertEqual(self.send("PUT", self.target, tagging(tags), status=204).body, b"")
            self.assertEqual(self.shown(), tags)
        self.assertEqual(self.shown("/bucket/k?tagging"), {})
        for _ in range(2):
            self.send("DELETE", self.target, status=204)
        self.refused("GET", self.target, 404, "NoSuchTagSet")

    def test_limits(self) -> None:
        """
        A bucket may have fifty tags; what is refused changes nothing.
        """
        tags = {f"key-{number:02}": "v" * 256 for number in range(50)}
        self.send("PUT", self.target, tagging(tags), status=204)
        for body, code in (
            (tagging({**tags, "more": ""}), "BadRequest"),
            (tagging({"aws:x": "1"}), "InvalidTag"),
            (tagging({"k" * 129: "1"}), "InvalidTag"),
            (tagging({"k": "v" * 257}), "InvalidTag"),
            (tagging({"": "v"}), "InvalidTag"),
            (
                tagging({"a": "1"}).replace(
                    b"</TagSet>", b"<Tag><Key>a</Key><Value/></Tag></TagSet>"
                ),
                "InvalidTag",
            ),
            (b"<Tagging/>", "MalformedXML"),
            (b"x", "MalformedXML"),
            (b"", "MissingRequestBodyError"),
        ):
            self.refused("PUT", self.target, 400, code, body=body)
        self.assertEqual(self.shown(), tags)
        self.refused("PUT", "/absent?tagging", 404, "NoSuchBucket", body=tagging({}))

    def test_new_bucket(self) -> None:
        """
        A new bucket may have tags from the beginning, and one that cannot be made has none.
        """
        self.send("PUT", "/new", creation({"a": "1"}), status=200)
        self.assertEqual(self.shown("/new?tagging"), {"a": "1"})
        self.refused("PUT", "/new", 409, "BucketAlreadyOwnedByYou", body=creation({"b": "2"}))
        self.assertEqual(self.shown("/new?tagging"), {"a": "1"})
        self.refused("PUT", "/new-2", 400, "InvalidTag", body=creation({"aws:a": "1"}))
        self.refused("GET", "/new-2", 404, "NoSuchBucket")
        self.send("PUT", "/new-2", creation({}), status=200)
        self.refused("GET", "/new-2?tagging", 404, "NoSuchTagSet")
        self.send("DELETE", "/new", status=204)
        self.send("PUT", "/new", status=200)
        self.refused("GET", "/new?tagging", 404, "NoSuchTagSet")

    def test_new_bucket_rights(self) -> None:
        """
        Who makes a bucket with tags must be allowed to set them.
        """

        def rule(identity: Identity | None, action: str, resource: str) -> bool:
            """
            Allow everything else.
            """
            return action != "s3:PutBucketTagging"

        front = evolve(self.front, authorizer=Rule(rule))
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.refused("PUT", "/new", 403, "AccessDenied", body=creation({"a": "1"}))
        self.refused("GET", "/new", 404, "NoSuchBucket")
        self.send("PUT", "/new", status=200)
