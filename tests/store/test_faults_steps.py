# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Every call of the disk that a request makes fails once, and the client is told what is true.
"""

import errno
from collections.abc import Callable

from attrs import frozen

from kypello.testing.harness import Answer
from tests.contracts.object_store import pattern
from tests.s3.front import at, read_xml
from tests.store.faultyfront import FaultyFrontCase

_FULL = (507, "XMinioStorageFull")
_FAILED = (503, "ServiceUnavailable")

#: Large enough for a blob, which is written in several pieces.
_LARGE = 120_000

#: What a request may leave behind: nothing, or the contents before and after it.
Content = bytes | None


@frozen
class Step:
    """
    A request.

    :ivar before: What the object is made before it.
    :ivar after: What it is when the request has succeeded.
    :ivar send: Sends it.
    """

    name: str
    before: Content
    after: Content
    send: Callable[["EachCallTests"], Answer]


class EachCallTests(FaultyFrontCase):
    """
    Requests whose calls of the disk fail, one after the other.
    """

    def fill(self, content: Content) -> None:
        """
        Have the object be this.
        """
        if content is None:
            self.send("DELETE", at("bucket", "k"), status=204)
        else:
            self.put("k", content)
        self.device.mend()
        self.assert_clean()

    def complete(self) -> Answer:
        """
        Upload in one part, and complete; the answer to the first request that fails.
        """
        begun = self.send("POST", at("bucket", "k", "uploads"))
        if begun.status != 200:
            return begun
        upload = read_xml(begun).findtext("UploadId")
        part = self.send(
            "PUT", at("bucket", "k", f"partNumber=1&uploadId={upload}"), pattern(_LARGE, 7)
        )
        if part.status != 200:
            return part
        body = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{part.header('ETag')}</ETag></Part></CompleteMultipartUpload>"
        )
        return self.send("POST", at("bucket", "k", f"uploadId={upload}"), body.encode())

    def abort_all(self) -> None:
        """
        Abort what was begun and never completed.
        """
        listed = read_xml(self.send("GET", "/bucket?uploads", status=200))
        for upload in listed.findall("Upload"):
            where = at("bucket", "k", f"uploadId={upload.findtext('UploadId')}")
            self.send("DELETE", where, status=204)

    def steps(self) -> list[Step]:
        """
        The requests.
        """
        small, other, large = pattern(500, 1), pattern(900, 2), pattern(_LARGE, 3)

        def put(content: bytes) -> Callable[["EachCallTests"], Answer]:
            """
            A request that stores.
            """
            return lambda case: case.send("PUT", at("bucket", "k"), content)

        def delete(case: "EachCallTests") -> Answer:
            """
            Delete.
            """
            return case.send("DELETE", at("bucket", "k"))

        def copy(case: "EachCallTests") -> Answer:
            """
            Copy another object.
            """
            headers = {"x-amz-copy-source": "/bucket/source"}
            return case.send("PUT", at("bucket", "k"), b"", headers)

        return [
            Step("small", None, small, put(small)),
            Step("small over large", large, small, put(small)),
            Step("large", None, large, put(large)),
            Step("large over small", other, large, put(large)),
            Step("delete small", small, None, delete),
            Step("delete large", large, None, delete),
            Step("copy", small, pattern(_LARGE, 9), copy),
            Step("upload", small, pattern(_LARGE, 7), EachCallTests.complete),
        ]

    def each(self, error: int, lasting: bool) -> dict[tuple[int, str], int]:
        """
        Have each call of each request fail, and see that what follows is right.

        :return: How often there was each answer.
        """
        self.put("source", pattern(_LARGE, 9))
        answers: dict[tuple[int, str], int] = {}
        for step in self.steps():
            number = 0
            while True:
                number += 1
                self.fill(step.before)
                self.device.break_(error, number, lasting)
                answer = self.code(step.send(self))
                failed = self.device.failed
                self.device.mend()
                answers[answer] = answers.get(answer, 0) + 1
                self.check(step, answer, f"{step.name}, call {number}: {failed} -> {answer}")
                if failed == ("", ""):
                    break
        return answers

    def check(self, step: Step, answer: tuple[int, str], what: str) -> None:
        """
        What is there is what the answer says, and nothing is left over.
        """
        found = self.content("k")
        if answer[0] < 300:
            self.assertEqual(found, step.after, what)
        elif answer == _FULL:
            self.assertEqual(found, step.before, what)
        else:
            self.assertEqual(answer, _FAILED, what)
            self.assertIn(found, (step.before, step.after), what)
        self.abort_all()
        self.assert_clean()
        self.assertEqual(self.content("source"), pattern(_LARGE, 9), what)

    def test_error_once(self) -> None:
        """
        A call that fails once with an error of the device.
        """
        answers = self.each(errno.EIO, False)
        self.assertEqual(set(answers), {(200, ""), (204, ""), _FAILED})
        self.assertGreater(answers[_FAILED], 100)

    def test_error_lasting(self) -> None:
        """
        A device that fails for good in the middle of a request.
        """
        answers = self.each(errno.EIO, True)
        self.assertEqual(set(answers), {(200, ""), (204, ""), _FAILED})

    def test_full_once(self) -> None:
        """
        A call that finds no room, before others find some again.
        """
        answers = self.each(errno.ENOSPC, False)
        self.assertGreater(answers[_FULL], 50)

    def test_full_lasting(self) -> None:
        """
        A disk that is full from the middle of a request on.
        """
        answers = self.each(errno.ENOSPC, True)
        self.assertGreater(answers[_FULL], 50)

    def test_quota_lasting(self) -> None:
        """
        A quota that is used up in the middle of a request.
        """
        answers = self.each(errno.EDQUOT, True)
        self.assertGreater(answers[_FULL], 50)


class EachBucketCallTests(FaultyFrontCase):
    """
    The same for requests about buckets.
    """

    def exists(self) -> bool:
        """
        Whether there is the bucket, whose settings are then at hand, too.
        """
        answer = self.send("GET", "/other?encryption")
        self.assertIn(answer.status, (200, 404), answer.body)
        return b"NoSuchBucket" not in answer.body

    def requests(self) -> list[tuple[str, str, bytes, bool]]:
        """
        Method, target and body of requests, and whether there is the bucket afterwards.
        """
        setting = (
            b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
            b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
            b"</ServerSideEncryptionConfiguration>"
        )
        return [
            ("PUT", "/other", b"", True),
            ("PUT", "/other?encryption", setting, True),
            ("DELETE", "/other", b"", False),
        ]

    def each(self, error: int, lasting: bool) -> set[tuple[int, str]]:
        """
        Have each call of each request fail, and see that what follows is right.

        :return: The answers.
        """
        answers = set()
        for method, target, body, after in self.requests():
            number = 0
            while True:
                number += 1
                self.send("DELETE", "/other")
                before = method == "DELETE" or bool(body)
                if before:
                    self.send("PUT", "/other", status=200)
                self.assert_clean()
                self.device.break_(error, number, lasting)
                answer = self.code(self.send(method, target, body))
                failed = self.device.failed
                self.device.mend()
                answers.add(answer)
                self.assert_clean()
                what = f"{method} {target}, call {number}: {failed} -> {answer}"
                if answer[0] < 300:
                    self.assertEqual(self.exists(), after, what)
                elif answer == _FULL and method == "PUT":
                    self.assertEqual(self.exists(), before, what)
                else:
                    self.assertIn(answer, (_FULL, _FAILED), what)
                if failed == ("", ""):
                    break
        return answers

    def test_error(self) -> None:
        """
        A device that fails once, or for good.
        """
        for lasting in (False, True):
            answers = self.each(errno.EIO, lasting)
            self.assertEqual(answers, {(200, ""), (204, ""), _FAILED})

    def test_full(self) -> None:
        """
        A disk that is full for a moment, or for good.
        """
        for lasting in (False, True):
            self.assertIn(_FULL, self.each(errno.ENOSPC, lasting))
