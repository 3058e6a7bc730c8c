# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Every wrong, missing or doubled header of server-side encryption in every operation that reads any.
"""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import md5
from typing import TypeAlias

from attrs import frozen

from tests.s3.front import read_xml, signed, texts
from tests.s3.secure import SOURCE_SSE, SSE, SecureCase, customer
from tests.s3.test_forms import FormCase, exactly, sign

Headers: TypeAlias = Mapping[str, str]

_S3, _KMS, _DUAL = ({SSE: name} for name in ("AES256", "aws:kms", "aws:kms:dsse"))
_KEY_ID, _CONTEXT = f"{SSE}-aws-kms-key-id", f"{SSE}-context"
_BUCKET_KEY = f"{SSE}-bucket-key-enabled"
_CUSTOMER, _SOURCE = customer(), customer(prefix=SOURCE_SSE)
_ALGORITHM, _KEY, _MD5 = _CUSTOMER
_COPY = {"x-amz-copy-source": "/bucket/plain"}

_INVALID = (400, "InvalidArgument")
_REQUEST = (400, "InvalidRequest")
_NONE: tuple[int, str] = (200, "")


def encoded(text: str) -> str:
    """
    A text in base64.
    """
    return b64encode(text.encode()).decode()


@frozen
class Fault:
    """
    Headers that are wrong.

    :ivar writing: Status and code of what stores something with them.
    :ivar reading: The same of what reads.
    """

    name: str
    headers: Headers
    writing: tuple[int, str] = _INVALID
    reading: tuple[int, str] = _INVALID


#: A key that is not its digest's.
_OTHER = customer(b"o" * 32)
_SHORT = {
    _ALGORITHM: "AES256",
    _KEY: encoded("short"),
    _MD5: b64encode(md5(b"short").digest()).decode(),
}

FAULTS = (
    Fault("unknown", {SSE: "AES128"}),
    Fault("lower case", {SSE: "aes256"}),
    Fault("upper case", {SSE: "AWS:KMS"}),
    Fault("empty", {SSE: ""}),
    Fault("key name with SSE-S3", {**_S3, _KEY_ID: "my-key"}),
    Fault("context with SSE-S3", {**_S3, _CONTEXT: "e30="}),
    Fault("key name alone", {_KEY_ID: "my-key"}),
    Fault("context alone", {_CONTEXT: "e30="}),
    Fault("key name with a blank", {**_KMS, _KEY_ID: "my key"}, _REQUEST),
    Fault("key name with a slash", {**_KMS, _KEY_ID: "my/key"}, _REQUEST),
    Fault("key unknown", {**_KMS, _KEY_ID: "other"}, (400, "kms:KeyNotFound")),
    Fault("context in clear", {**_KMS, _CONTEXT: "{}"}),
    Fault("context torn", {**_KMS, _CONTEXT: encoded("{")}),
    Fault("context a list", {**_KMS, _CONTEXT: encoded("[]")}),
    Fault("context of numbers", {**_KMS, _CONTEXT: encoded('{"a": 1}')}),
    Fault("context empty", {**_KMS, _CONTEXT: ""}),
    Fault("bucket key", {**_KMS, _BUCKET_KEY: "yes"}),
    Fault("two layers in upper case", {SSE: "aws:kms:DSSE"}),
    Fault("three layers", {SSE: "aws:kms:dsse:dsse"}),
    Fault("key of two layers with a blank", {**_DUAL, _KEY_ID: "my key"}, _REQUEST),
    Fault("key unknown, two layers", {**_DUAL, _KEY_ID: "other"}, (400, "kms:KeyNotFound")),
    Fault("context of two layers in clear", {**_DUAL, _CONTEXT: "{}"}),
    Fault("bucket key of two layers", {**_DUAL, _BUCKET_KEY: "yes"}),
    Fault("two layers and a key", {**_DUAL, **_CUSTOMER}),
    Fault("SSE-S3 and a key", {**_S3, **_CUSTOMER}),
    Fault("SSE-KMS and a key", {**_KMS, **_CUSTOMER}),
    Fault("key name and a key", {**_CUSTOMER, _KEY_ID: "my-key"}),
    Fault("no algorithm", {_KEY: _CUSTOMER[_KEY], _MD5: _CUSTOMER[_MD5]}),
    Fault("no key", {_ALGORITHM: "AES256", _MD5: _CUSTOMER[_MD5]}),
    Fault("no digest", {_ALGORITHM: "AES256", _KEY: _CUSTOMER[_KEY]}),
    Fault("algorithm alone", {_ALGORITHM: "AES256"}),
    Fault("key empty", {**_CUSTOMER, _KEY: ""}),
    Fault("digest empty", {**_CUSTOMER, _MD5: ""}),
    Fault(
        "other algorithm",
        {**_CUSTOMER, _ALGORITHM: "AES128"},
        (400, "InvalidEncryptionAlgorithmError"),
        (400, "InvalidEncryptionAlgorithmError"),
    ),
    Fault("key too short", _SHORT),
    Fault("key in clear", {**_CUSTOMER, _KEY: "k" * 32}),
    Fault("digest of another key", {**_CUSTOMER, _MD5: _OTHER[_MD5]}),
    Fault("digest in hex", {**_CUSTOMER, _MD5: md5(b"k" * 32).hexdigest()}),
)

#: Of the three headers of a key, and of the other, those that come twice.
DOUBLED = (
    (_S3, SSE),
    ({**_KMS, _KEY_ID: "my-key"}, _KEY_ID),
    ({**_KMS, _CONTEXT: "e30="}, _CONTEXT),
    ({**_KMS, _BUCKET_KEY: "true"}, _BUCKET_KEY),
    (_CUSTOMER, _ALGORITHM),
    (_CUSTOMER, _KEY),
    (_CUSTOMER, _MD5),
)


class FaultCase(SecureCase):
    """
    A test with objects and uploads of all kinds.
    """

    def setUp(self) -> None:
        """
        Store them.
        """
        super().setUp()
        kinds: Mapping[str, Headers] = {
            "plain": {},
            "s3": _S3,
            "kms": _KMS,
            "dual": _DUAL,
            "c": _CUSTOMER,
        }
        self.uploads = {}
        for kind, headers in kinds.items():
            self.send("PUT", f"/bucket/{kind}", b"content", headers, status=200)
            answer = self.send("POST", f"/bucket/up-{kind}?uploads", headers=headers, status=200)
            (self.uploads[kind],) = texts(read_xml(answer), "UploadId")

    def part(self, kind: str) -> str:
        """
        The target of a part.
        """
        return f"/bucket/up-{kind}?partNumber=1&uploadId={self.uploads[kind]}"

    def ends(
        self, method: str, target: str, headers: Headers, expected: tuple[int, str], what: str
    ) -> None:
        """
        See how a request is answered; a HEAD has no code.
        """
        body = b"x" if method == "PUT" and "x-amz-copy-source" not in headers else b""
        answer = self.send(method, target, body, headers)
        self.assertEqual(answer.status, expected[0], f"{what}: {answer.body!r}")
        if answer.status >= 400 and method != "HEAD":
            self.assertEqual(read_xml(answer).findtext("Code"), expected[1], what)
        for secret in (_CUSTOMER[_KEY], "k" * 32):
            self.assertNotIn(secret.encode(), answer.body)


class WritingTests(FaultCase):
    """
    What stores something.
    """

    def test_faults(self) -> None:
        """
        PUT, copy, and the begin of an upload refuse every fault, and store nothing.
        """
        for fault in FAULTS:
            for method, target, headers in (
                ("PUT", "/bucket/new", {}),
                ("PUT", "/bucket/new", _COPY),
                ("POST", "/bucket/new?uploads", {}),
            ):
                what = f"{fault.name}, {method} {target} {dict(headers)}"
                self.ends(method, target, {**headers, **fault.headers}, fault.writing, what)
        self.send("HEAD", "/bucket/new", status=404)
        uploads = read_xml(self.send("GET", "/bucket?uploads&prefix=new"))
        self.assertEqual(texts(uploads, "Upload"), [])

    def test_source_keys(self) -> None:
        """
        A key for a source is refused where nothing is copied, and must fit where something is.
        """
        wrong = customer(b"o" * 32, SOURCE_SSE)
        for method, target in (("PUT", "/bucket/new"), ("POST", "/bucket/new?uploads")):
            for headers in (_SOURCE, {**_S3, **_SOURCE}, {**_CUSTOMER, **_SOURCE}):
                self.ends(method, target, headers, _REQUEST, f"{method} {dict(headers)}")
        own = {"x-amz-copy-source": "/bucket/c"}
        for target in ("/bucket/new", self.part("plain")):
            for headers, expected in (
                (own, _REQUEST),
                ({**own, **wrong}, (403, "AccessDenied")),
                ({**own, **_CUSTOMER, **wrong}, (403, "AccessDenied")),
                ({**_COPY, **_SOURCE}, _REQUEST),
                ({"x-amz-copy-source": "/bucket/s3", **_SOURCE}, _REQUEST),
            ):
                self.ends("PUT", target, headers, expected, f"{target} {dict(headers)}")
        for fault in FAULTS:
            source = {
                name.replace(SSE, SOURCE_SSE): value
                for name, value in fault.headers.items()
                if name in _CUSTOMER
            }
            if len(source) == len(fault.headers):
                headers = {**own, **source}
                self.ends("PUT", "/bucket/new", headers, fault.writing, f"source, {fault.name}")

    def test_doubled(self) -> None:
        """
        A header that comes twice is refused, even if both say the same.
        """
        for headers, twice in DOUBLED:
            joined = {**headers, twice: f"{headers[twice]},{headers[twice]}"}
            for method, target in (
                ("PUT", "/bucket/new"),
                ("POST", "/bucket/new?uploads"),
                ("GET", "/bucket/c"),
                ("PUT", self.part("c")),
            ):
                body = b"x" if method == "PUT" else b""
                lines = signed(method, target, joined, body)
                split = [
                    (name, value)
                    for name, joint in lines
                    for value in (joint.split(",") if name == twice else [joint])
                ]
                self.assertEqual(len(split), len(lines) + 1)
                answer = self.plainly(method, target, split, body)
                self.assertEqual(answer.status, 400, f"{twice}, {method}: {answer.body!r}")
        self.send("HEAD", "/bucket/new", status=404)


class PartTests(FaultCase):
    """
    What belongs to an upload.
    """

    def test_faults(self) -> None:
        """
        Parts and copied parts of every upload refuse every fault.
        """
        for fault in FAULTS:
            for kind in self.uploads:
                for headers in ({}, _COPY):
                    what = f"{fault.name}, {kind} {dict(headers)}"
                    expected = fault.writing
                    if fault.name.startswith("key unknown"):
                        # It is the upload that has decided, and by another one.
                        expected = _INVALID
                    self.ends("PUT", self.part(kind), {**headers, **fault.headers}, expected, what)

    def test_other_kind(self) -> None:
        """
        A part asks for nothing else than its upload, and brings a key exactly if that has one.
        """
        asking: Mapping[str, Headers] = {
            "plain": {},
            "s3": _S3,
            "kms": _KMS,
            "dual": _DUAL,
            "c": _CUSTOMER,
        }
        for kind in self.uploads:
            for asked, headers in asking.items():
                expected = _INVALID
                if kind == "c" and asked == "plain":
                    expected = _REQUEST
                elif asked in (kind, "plain"):
                    expected = _NONE
                elif asked == "c":
                    expected = _REQUEST
                for more in ({}, _COPY):
                    self.ends(
                        "PUT", self.part(kind), {**more, **headers}, expected, f"{asked} in {kind}"
                    )
        self.ends("PUT", self.part("c"), _OTHER, _REQUEST, "another key")


class ReadingTests(FaultCase):
    """
    What reads.
    """

    def test_faults(self) -> None:
        """
        GET, HEAD and attributes of every object refuse every fault.
        """
        for fault in FAULTS:
            for kind in self.uploads:
                for method, query in (("GET", ""), ("HEAD", ""), ("GET", "?attributes")):
                    more = {"x-amz-object-attributes": "ETag"} if query else {}
                    self.ends(
                        method,
                        f"/bucket/{kind}{query}",
                        {**more, **fault.headers},
                        fault.reading,
                        f"{fault.name}, {method} {kind}{query}",
                    )

    def test_kinds(self) -> None:
        """
        No read names an encryption, even the right one; a key is needed exactly where there is
        one, and must be the right one.
        """
        for kind in self.uploads:
            for headers, expected in (
                ({}, _REQUEST if kind == "c" else _NONE),
                (_CUSTOMER, _NONE if kind == "c" else _REQUEST),
                (_OTHER, (403, "AccessDenied") if kind == "c" else _REQUEST),
                (_SOURCE, _REQUEST),
                (_S3, _INVALID),
                (_KMS, _INVALID),
                ({_BUCKET_KEY: "true"}, _INVALID),
            ):
                for method, query in (("GET", ""), ("HEAD", ""), ("GET", "?attributes")):
                    more = {"x-amz-object-attributes": "ETag"} if query else {}
                    self.ends(
                        method,
                        f"/bucket/{kind}{query}",
                        {**more, **headers},
                        expected,
                        f"{method} {kind}{query} {dict(headers)}",
                    )

    def test_tags(self) -> None:
        """
        Tags, which need no key, are given with none of the faults all the same.
        """
        for fault in FAULTS:
            for kind in self.uploads:
                target, what = f"/bucket/{kind}?tagging", f"{fault.name}, tags of {kind}"
                self.ends("GET", target, fault.headers, fault.reading, what)


class CompletionTests(FaultCase):
    """
    The end of an upload, for which clients repeat what they began it with.
    """

    def test_faults(self) -> None:
        """
        Every fault is refused, another kind of encryption, too; and the upload stays.
        """
        asking: Mapping[str, Headers] = {"s3": _S3, "kms": _KMS, "dual": _DUAL}
        for kind, upload in self.uploads.items():
            key = _CUSTOMER if kind == "c" else {}
            etag = self.send("PUT", self.part(kind), b"x", key, status=200).header("ETag")
            body = (
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
                f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
            ).encode()
            target = f"/bucket/up-{kind}?uploadId={upload}"
            wrong = [
                (
                    fault.headers,
                    _INVALID if fault.name.startswith("key unknown") else fault.writing,
                )
                for fault in FAULTS
            ]
            wrong += [(headers, _INVALID) for other, headers in asking.items() if other != kind]
            wrong.append((_SOURCE, _REQUEST))
            for headers, (status, code) in wrong:
                self.refused("POST", target, status, code, body=body, headers=headers)
            self.send("HEAD", f"/bucket/up-{kind}", headers=key, status=404)
            self.send("POST", target, body, key, status=200)
            self.send("HEAD", f"/bucket/up-{kind}", headers=key, status=200)


class FormTests(SecureCase, FormCase):
    """
    Forms, which ask in their fields.
    """

    def test_faults(self) -> None:
        """
        Every fault is refused, and nothing is stored.
        """
        for fault in (*FAULTS, Fault("source", _SOURCE)):
            fields = {"key": "new", **fault.headers}
            answer = self.post(sign(fields, exactly(fields)))
            status, code = fault.writing
            self.assertEqual(answer.status, status, f"{fault.name}: {answer.body!r}")
            self.assert_refused(answer, status, code)
        self.assert_nothing()
