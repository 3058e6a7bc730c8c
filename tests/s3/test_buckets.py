# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.buckets``, over the wire.
"""

from tests.s3.front import NAMESPACE, FrontCase, read_xml, texts

_OWNER = "02d6176db174dc93cb1b899f7c6078f08654445fe8cf1b6ce98d8855f66bdbf4"


def configuration(region: str, namespace: str = "") -> bytes:
    """
    A request for a bucket in a region.
    """
    return (
        f"<CreateBucketConfiguration{namespace}><LocationConstraint>{region}"
        "</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


class ListTests(FrontCase):
    """
    The list of buckets.
    """

    def names(self, query: str = "") -> list[str]:
        """
        The names that a list shows.
        """
        return texts(read_xml(self.send("GET", f"/{query}", status=200)), "Buckets/Bucket/Name")

    def test_all(self) -> None:
        """
        All buckets are shown in order, with their owner and the time of their creation.
        """
        for name in ("zebra", "a.b-c", "bucket-2"):
            self.send("PUT", f"/{name}", status=200)
        tree = read_xml(self.send("GET", "/?x-id=ListBuckets", status=200))
        self.assertEqual(tree.findtext("Owner/ID"), _OWNER)
        names = texts(tree, "Buckets/Bucket/Name")
        self.assertEqual(names, ["a.b-c", "bucket", "bucket-2", "zebra"])
        for date in texts(tree, "Buckets/Bucket/CreationDate"):
            self.assertRegex(date, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(texts(tree, "Buckets/Bucket/BucketRegion"), [])
        self.assertIsNone(tree.find("ContinuationToken"))

    def test_none(self) -> None:
        """
        The list is there when it is empty.
        """
        self.send("DELETE", "/bucket", status=204)
        self.assertIsNotNone(read_xml(self.send("GET", "/", status=200)).find("Buckets"))

    def test_pages(self) -> None:
        """
        Pages follow each other by their tokens and show the region.
        """
        for number in range(4):
            self.send("PUT", f"/page-{number}", status=200)
        seen, query = [], "?max-buckets=2"
        for _ in range(3):
            tree = read_xml(self.send("GET", f"/{query}", status=200))
            seen += texts(tree, "Buckets/Bucket/Name")
            self.assertIn("us-east-1", texts(tree, "Buckets/Bucket/BucketRegion"))
            token = tree.findtext("ContinuationToken")
            query = f"?continuation-token={token}&max-buckets=2"
        self.assertEqual(seen, ["bucket", "page-0", "page-1", "page-2", "page-3"])
        self.assertIsNone(token)

    def test_filters(self) -> None:
        """
        A list can be narrowed by prefix and region.
        """
        self.send("PUT", "/other", status=200)
        self.assertEqual(self.names("?prefix=o"), ["other"])
        self.assertEqual(self.names("?bucket-region=us-east-1"), ["bucket", "other"])
        self.assertEqual(self.names("?bucket-region=eu-west-1"), [])

    def test_arguments(self) -> None:
        """
        Nonsense is refused.
        """
        for query in ("max-buckets=0", "max-buckets=10001", "max-buckets=x", "max-buckets="):
            self.refused("GET", f"/?{query}", 400, "InvalidArgument")
        for token in ("%21", "YQ", "_w%3D%3D", "%C3%A4"):
            self.refused("GET", f"/?continuation-token={token}", 400, "InvalidArgument")


class CreateTests(FrontCase):
    """
    The making of buckets.
    """

    def test_names(self) -> None:
        """
        Names of hosts are names of buckets.
        """
        for name in ("abc", "1-2", "a.b", "a" * 63, "with-hyphen.and.periods"):
            answer = self.send("PUT", f"/{name}/", status=200)
            self.assertEqual(answer.header("Location"), f"/{name}")
            self.send("HEAD", f"/{name}", status=200)

    def test_bad_names(self) -> None:
        """
        Other names are refused.
        """
        for name in (
            "ab", "a" * 64, "Upper", "under_score", "192.168.1.1", "a..b", "a.-b", "a-.b", "-ab",
            "ab-", ".ab", "a%20b", "b%C3%A4d", "abc%0A",
        ):  # fmt: skip
            for method in ("PUT", "GET"):
                self.refused(method, f"/{name}", 400, "InvalidBucketName")
        self.refused("PUT", "/minio", 403, "AllAccessDisabled")

    def test_twice(self) -> None:
        """
        A bucket that exists stays as it is.
        """
        self.put("k")
        self.refused("PUT", "/bucket", 409, "BucketAlreadyOwnedByYou")
        self.send("GET", "/bucket/k", status=200)

    def test_configuration(self) -> None:
        """
        Without a configured region every one will do.
        """
        namespace = f' xmlns="{NAMESPACE[1:-1]}"'
        for number, region in enumerate(("eu-west-1", "us-east-1", "")):
            for body in (configuration(region), configuration(region, namespace)):
                self.send("PUT", f"/region-{number}", body, status=200)
                self.send("DELETE", f"/region-{number}", status=204)

    def test_malformed(self) -> None:
        """
        A configuration that cannot be read is refused.
        """
        for body in (
            b"<",
            b"x",
            b"<Other/>",
            b"<!DOCTYPE x><CreateBucketConfiguration/>",
            b'<?xml version="1.0" encoding="utf-7"?><CreateBucketConfiguration/>',
            b"<CreateBucketConfiguration><Other/></CreateBucketConfiguration>",
            b'<CreateBucketConfiguration xmlns="urn:x"/>',
            b"<CreateBucketConfiguration><Tags/><Tags/></CreateBucketConfiguration>",
            b"<CreateBucketConfiguration><Tags><Other/></Tags></CreateBucketConfiguration>",
            configuration("<b/>"),
        ):
            self.refused("PUT", "/new", 400, "MalformedXML", body=body)
        self.refused("GET", "/new", 404, "NoSuchBucket")

    def test_not_offered(self) -> None:
        """
        What a configuration may ask for, and would not get, is refused.
        """
        for element in ("<Bucket/>", "<Location/>"):
            body = f"<CreateBucketConfiguration>{element}</CreateBucketConfiguration>".encode()
            self.refused("PUT", "/new", 501, "NotImplemented", body=body)
        self.refused("GET", "/new", 404, "NoSuchBucket")

    def test_headers(self) -> None:
        """
        Access lists are ignored; a lock that is none is refused, and so is a namespace.
        """
        self.send("PUT", "/new", headers={"x-amz-acl": "public-read"}, status=200)
        lock, ownership = "x-amz-bucket-object-lock-enabled", "x-amz-object-ownership"
        self.send("PUT", "/new-2", headers={lock: "false"}, status=200)
        namespace = "x-amz-bucket-namespace"
        self.send("PUT", "/new-3", headers={ownership: "BucketOwnerEnforced"}, status=200)
        self.send("PUT", "/new-5", headers={namespace: "global"}, status=200)
        for headers, status, code in (
            ({lock: "maybe"}, 400, "InvalidArgument"),
            ({ownership: "Nobody"}, 400, "InvalidArgument"),
            ({namespace: "account-regional"}, 501, "NotImplemented"),
            ({namespace: "other"}, 400, "InvalidArgument"),
        ):
            self.refused("PUT", "/new-4", status, code, headers=headers)


class RegionTests(FrontCase):
    """
    A server with a configured region.
    """

    region = "eu-west-1"

    def test_location(self) -> None:
        """
        The region is told, and others are refused.
        """
        tree = read_xml(self.send("GET", "/bucket?location", status=200))
        self.assertEqual((tree.tag, tree.text), ("LocationConstraint", "eu-west-1"))
        for region in ("eu-west-1", "us-east-1", ""):
            self.send("PUT", "/new", configuration(region), status=200)
            self.send("DELETE", "/new", status=204)
        self.refused("PUT", "/new", 400, "InvalidRegion", body=configuration("eu-west-2"))


class BucketTests(FrontCase):
    """
    Other operations on buckets.
    """

    def test_head(self) -> None:
        """
        HEAD tells whether a bucket exists, and the region in any case.
        """
        for target, status in (("/bucket", 200), ("/bucket/", 200), ("/absent", 404)):
            answer = self.send("HEAD", target, status=status)
            self.assertEqual(answer.header("x-amz-bucket-region"), "us-east-1")
        answer = self.plainly("HEAD", "/bucket", [])
        self.assertEqual((answer.status, answer.body), (403, b""))
        self.assertEqual(answer.header("x-amz-bucket-region"), "us-east-1")
        self.assertEqual(answer.header("X-Minio-Error-Code"), "AccessDenied")

    def test_delete(self) -> None:
        """
        An empty bucket can be removed, and made again without what it had.
        """
        self.put("k")
        self.refused("DELETE", "/bucket", 409, "BucketNotEmpty")
        self.send("DELETE", "/bucket/k", status=204)
        self.send("DELETE", "/bucket", status=204)
        self.refused("DELETE", "/bucket", 404, "NoSuchBucket")
        self.send("PUT", "/bucket", status=200)
        self.assertEqual(texts(read_xml(self.send("GET", "/bucket")), "Contents/Key"), [])

    def test_location(self) -> None:
        """
        The default region has no name here.
        """
        tree = read_xml(self.send("GET", "/bucket/?location=", status=200))
        self.assertEqual((tree.tag, tree.text), ("LocationConstraint", None))
        self.refused("GET", "/absent?location", 404, "NoSuchBucket")
