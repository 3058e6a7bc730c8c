# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What tests of object lock have in common.
"""

from datetime import UTC, datetime

from attrs import evolve
from twisted.internet.task import Clock

from kypello.s3.root import S3Resource
from kypello.testing.harness import Answer, Harness
from tests.s3.front import Headers, at, read_xml
from tests.s3.rules import Rule
from tests.s3.test_authorization import AuthorizationCase
from tests.s3.test_formdata import BOUNDARY, form, part
from tests.s3.test_forms import exactly, sign

ENABLED = {"x-amz-bucket-object-lock-enabled": "true"}
BYPASS = {"x-amz-bypass-governance-retention": "true"}

#: A day in seconds.
DAY = 24 * 3600


def configuration(period: str = "", mode: str = "GOVERNANCE") -> bytes:
    """
    A document that sets the object lock of a bucket.

    :param period: The element with days or years; empty for no rule.
    """
    rule = f"<Rule><DefaultRetention><Mode>{mode}</Mode>{period}</DefaultRetention></Rule>"
    return (
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
        f"{rule if period else ''}</ObjectLockConfiguration>"
    ).encode()


def retention(mode: str, until: str) -> bytes:
    """
    A document that sets a retention.
    """
    content = f"<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>"
    return f"<Retention>{content}</Retention>".encode()


def hold(status: str) -> bytes:
    """
    A document that sets a legal hold.
    """
    return f"<LegalHold><Status>{status}</Status></LegalHold>".encode()


class LockCase(AuthorizationCase):
    """
    A test with a bucket ``locked`` whose versions can be locked.

    :ivar time: A clock that can go on without those who sign requests.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        super().setUp()
        self.time = Clock()
        self.time.advance(self.clock.seconds())
        rules = Rule(self.rule, self.key_rule)
        front = evolve(self.front, authorizer=rules, clock=self.time)
        self.harness = Harness(S3Resource(front, self.health.probe), access_log=False)
        self.send("PUT", "/locked", headers=ENABLED, status=200)

    def date(self, days: float) -> str:
        """
        The second that comes so many days from now, as clients write it.
        """
        moment = datetime.fromtimestamp(int(self.time.seconds()) + days * DAY, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def shown(self, days: float) -> str:
        """
        The same as answers write it.
        """
        return self.date(days).replace("Z", ".000Z")

    def keeping(self, mode: str = "GOVERNANCE", days: float = 1) -> dict[str, str]:
        """
        The headers that keep a new version.
        """
        return {
            "x-amz-object-lock-mode": mode,
            "x-amz-object-lock-retain-until-date": self.date(days),
        }

    def made(self, key: str = "k", headers: Headers | None = None) -> str:
        """
        Store a version, and give its id.
        """
        return self.version(self.send("PUT", at("locked", key), b"data", headers, status=200))

    def version(self, answer: Answer) -> str:
        """
        The version that an answer tells.
        """
        version_id = answer.header("x-amz-version-id")
        assert version_id is not None, answer
        return version_id

    def lock_of(self, key: str = "k", version_id: str = "") -> tuple[str | None, ...]:
        """
        Mode, end and hold of a version, told by HEAD as by GET.
        """
        target = at("locked", key, version_id and f"versionId={version_id}")
        names = ("mode", "retain-until-date", "legal-hold")
        told, again = (
            tuple(
                self.send(method, target, status=200).header(f"x-amz-object-lock-{name}")
                for name in names
            )
            for method in ("HEAD", "GET")
        )
        self.assertEqual(told, again)
        return told

    def remove(self, version_id: str, status: int, headers: Headers | None = None) -> Answer:
        """
        Remove a version of ``k`` for good, or not.
        """
        target = at("locked", "k", f"versionId={version_id}")
        answer = self.send("DELETE", target, b"", headers)
        if status == 403:
            self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(answer.status, status, answer.body)
        return answer


class WriteCase(LockCase):
    """
    A test that stores objects in different ways.
    """

    def setUp(self) -> None:
        """
        Store a source for copies.
        """
        super().setUp()
        self.put("source")
        self.ways = {
            "put": self.put_it,
            "copy": self.copy_it,
            "parts": self.upload_it,
            "form": self.post_it,
        }

    def put_it(self, headers: Headers, bucket: str = "locked") -> Answer:
        """
        Store ``k`` in one piece.
        """
        return self.send("PUT", at(bucket, "k"), b"data", headers)

    def copy_it(self, headers: Headers, bucket: str = "locked") -> Answer:
        """
        Store ``k`` as a copy.
        """
        named = {**headers, "x-amz-copy-source": "bucket/source"}
        return self.send("PUT", at(bucket, "k"), b"", named)

    def upload_it(self, headers: Headers, bucket: str = "locked") -> Answer:
        """
        Store ``k`` in parts; what is refused is refused when the upload begins.
        """
        begun = self.send("POST", at(bucket, "k", "uploads"), b"", headers)
        if begun.status != 200:
            return begun
        return self.complete(self.part_of(begun, bucket), bucket)

    def part_of(self, begun: Answer, bucket: str = "locked") -> tuple[str, str]:
        """
        Store a part of an upload; give the id of that, and the list of parts.
        """
        upload_id = read_xml(begun).findtext("UploadId") or ""
        where = f"partNumber=1&uploadId={upload_id}"
        etag = self.send("PUT", at(bucket, "k", where), b"data", status=200).header("ETag")
        listed = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
        return upload_id, f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"

    def complete(self, upload: tuple[str, str], bucket: str = "locked") -> Answer:
        """
        Complete an upload.
        """
        upload_id, listed = upload
        return self.send("POST", at(bucket, "k", f"uploadId={upload_id}"), listed.encode())

    def post_it(self, headers: Headers, bucket: str = "locked") -> Answer:
        """
        Store ``k`` by a form.
        """
        fields = {**headers, "key": "k", "bucket": bucket}
        signed = sign(fields, exactly(fields))
        parts = [part(name, value.encode()) for name, value in signed.items()]
        body = form(*parts, part("file", b"data", "name"))
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        return self.plainly("POST", f"/{bucket}", [("Content-Type", kind)], body)
