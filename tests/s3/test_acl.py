# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.acl``, over the wire.
"""

from kypello.s3.owner import OWNER_ID
from tests.s3.front import FrontCase, read_xml, texts
from tests.s3.secure import SecureCase, customer

_ACLS = ("/bucket?acl", "/bucket/k?acl")
_EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"


def grant(
    grantee: str = f"<ID>{OWNER_ID}</ID>",
    permission: str = "FULL_CONTROL",
    kind: str = "CanonicalUser",
) -> str:
    """
    A grant of a list.
    """
    return (
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:type="{kind}">{grantee}</Grantee><Permission>{permission}</Permission></Grant>'
    )


def acl(*grants: str, owner: str = OWNER_ID) -> bytes:
    """
    A list.
    """
    return (
        '<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Owner><ID>{owner}</ID></Owner><AccessControlList>{''.join(grants)}</AccessControlList>"
        "</AccessControlPolicy>"
    ).encode()


class ACLTests(FrontCase):
    """
    ``?acl`` of buckets and objects.
    """

    def setUp(self) -> None:
        """
        Have an object.
        """
        super().setUp()
        self.put("k")

    def test_shown(self) -> None:
        """
        The owner, who has a name and an id, may do everything; what is shown may be set.
        """
        for target in _ACLS:
            answer = self.send("GET", target, status=200)
            tree = read_xml(answer)
            self.assertEqual(texts(tree, "Owner/ID"), [OWNER_ID])
            granted = "AccessControlList/Grant"
            self.assertEqual(texts(tree, f"{granted}/Grantee/ID"), [OWNER_ID])
            self.assertEqual(texts(tree, f"{granted}/Permission"), ["FULL_CONTROL"])
            self.send("PUT", target, answer.body, status=200)

    def test_canned(self) -> None:
        """
        Canned lists that keep everything with the owner are accepted, others are not.
        """
        for name, bucket, of_object in (
            ("private", 200, 200),
            ("bucket-owner-full-control", 400, 200),
            ("bucket-owner-read", 400, 200),
            ("public-read", 400, 400),
            ("public-read-write", 400, 400),
            ("authenticated-read", 400, 400),
            ("aws-exec-read", 400, 400),
            ("log-delivery-write", 400, 400),
        ):
            for target, status in zip(_ACLS, (bucket, of_object), strict=True):
                answer = self.send("PUT", target, headers={"x-amz-acl": name}, status=status)
                if status == 400:
                    self.assert_refused(answer, 400, "AccessControlListNotSupported")
        for name in ("open", "Private", ""):
            for target in _ACLS:
                headers = {"x-amz-acl": name}
                self.refused("PUT", target, 400, "InvalidArgument", headers=headers)

    def test_grants(self) -> None:
        """
        Grants in headers may say what is anyway.
        """
        full = "x-amz-grant-full-control"
        for target in _ACLS:
            for value in (f"id={OWNER_ID}", f'id="{OWNER_ID}"', f' id = "{OWNER_ID}" '):
                self.send("PUT", target, headers={full: value}, status=200)
            for name, value, code in (
                (full, f'id="{OWNER_ID}", id="other"', "AccessControlListNotSupported"),
                ("x-amz-grant-read", f'uri="{_EVERYBODY}"', "AccessControlListNotSupported"),
                ("x-amz-grant-write-acp", 'emailAddress="a@b"', "AccessControlListNotSupported"),
                ("x-amz-grant-read", "everybody", "InvalidArgument"),
                ("x-amz-grant-everything", 'id="x"', "InvalidArgument"),
            ):
                self.refused("PUT", target, 400, code, headers={name: value})

    def test_documents(self) -> None:
        """
        A document may say what is anyway; one that is no list is refused in other words.
        """
        for target in _ACLS:
            self.send("PUT", target, acl(grant()), status=200)
            for body in (
                acl(),
                acl(grant(), grant()),
                acl(grant(permission="READ")),
                acl(grant("<ID>other</ID>")),
                acl(grant(), owner="other"),
                acl(grant(), grant(f"<URI>{_EVERYBODY}</URI>", "READ", "Group")),
            ):
                self.refused("PUT", target, 400, "AccessControlListNotSupported", body=body)
            for body in (
                b"x",
                b"<Other/>",
                b"<AccessControlPolicy/>",
                acl(grant(permission="EVERYTHING")),
                acl(grant("")),
                acl("<Grant/>"),
                acl(grant()).replace(b"Grantee", b"Somebody"),
                acl(grant()).replace(b"</Owner>", b"</Owner><Owner/>"),
            ):
                self.refused("PUT", target, 400, "MalformedACLError", body=body)

    def test_one_way(self) -> None:
        """
        A list is set in one of the ways.
        """
        private, full = {"x-amz-acl": "private"}, {"x-amz-grant-read": 'id="x"'}
        for target in _ACLS:
            self.refused("PUT", target, 400, "InvalidRequest", headers={**private, **full})
            self.refused(
                "PUT", target, 400, "UnexpectedContent", headers=private, body=acl(grant())
            )
            self.refused("PUT", target, 400, "MissingSecurityHeader")

    def test_absent(self) -> None:
        """
        There must be what a list is of.
        """
        for method in ("GET", "PUT"):
            self.refused(method, "/absent?acl", 404, "NoSuchBucket")
            self.refused(method, "/absent/k?acl", 404, "NoSuchBucket")
            self.refused(method, "/bucket/absent?acl", 404, "NoSuchKey")

    def test_tolerated(self) -> None:
        """
        On the way into a bucket every canned list and grant is tolerated, and none has effect.
        """
        for number, headers in enumerate(
            (
                {"x-amz-acl": "public-read"},
                {"x-amz-acl": "public-read-write"},
                {"x-amz-acl": "bucket-owner-full-control"},
                {"x-amz-grant-read": f'uri="{_EVERYBODY}"'},
            )
        ):
            self.send("PUT", f"/bucket-{number}", headers=headers, status=200)
            self.send("PUT", "/bucket/k2", b"x", headers, status=200)
            source = {"x-amz-copy-source": "/bucket/k2", **headers}
            self.send("PUT", "/bucket/k3", headers=source, status=200)
            self.send("POST", "/bucket/k4?uploads", headers=headers, status=200)
            for target in ("/bucket/k2", "/bucket/k3", f"/bucket-{number}"):
                self.assert_refused(self.plainly("GET", target, []), 403, "AccessDenied")
                self.send("GET", target, status=200)


class BlockTests(FrontCase):
    """
    A bucket that may block public lists.
    """

    def block(self, flag: str) -> None:
        """
        Set the block.
        """
        body = (
            '<PublicAccessBlockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<BlockPublicAcls>{flag}</BlockPublicAcls></PublicAccessBlockConfiguration>"
        )
        self.send("PUT", "/bucket?publicAccessBlock", body.encode(), status=200)

    def test_blocked(self) -> None:
        """
        Whoever asks for a public list is refused where that is blocked, whatever the operation,
        and nowhere else; other lists are taken for what they are.
        """
        self.send("PUT", "/bucket/source", b"x", status=200)
        public = (
            *({"x-amz-acl": name} for name in ("public-read", "public-read-write")),
            {"x-amz-acl": "authenticated-read"},
            {"x-amz-grant-read": f'uri="{_EVERYBODY}"'},
            {"x-amz-grant-write": f'id="1", uri="{_EVERYBODY}"'},
        )
        for flag, status in (("true", 403), ("false", 200)):
            self.block(flag)
            for headers in public:
                self.send("PUT", "/bucket/k", b"x", headers, status=status)
                self.send("POST", "/bucket/k?uploads", b"", headers, status=status)
                copy = {**headers, "x-amz-copy-source": "/bucket/source"}
                self.send("PUT", "/bucket/copy", b"", copy, status=status)
            self.send("PUT", "/bucket/k", b"x", {"x-amz-acl": "private"}, status=200)
            refused = 403 if status == 403 else 400
            self.send("PUT", "/bucket?acl", b"", public[0], status=refused)
            self.send("PUT", "/bucket/source?acl", b"", public[0], status=refused)


class CustomerKeyTests(SecureCase):
    """
    Objects that are stored with a key of their client.
    """

    def test_without_key(self) -> None:
        """
        Nobody needs the key to see, or set, who may use the object.
        """
        self.send("PUT", "/bucket/k", b"x", customer(), status=200)
        self.send("GET", "/bucket/k?acl", status=200)
        self.send("PUT", "/bucket/k?acl", headers={"x-amz-acl": "private"}, status=200)
