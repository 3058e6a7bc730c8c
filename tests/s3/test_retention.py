# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.retention``.
"""

from tests.s3.front import at, presigned, read_xml
from tests.s3.locks import BYPASS, DAY, LockCase, hold, retention

_NOT_SET = "NoSuchObjectLockConfiguration"


class RetentionTests(LockCase):
    """
    ``?retention`` of objects.
    """

    def setUp(self) -> None:
        """
        Store two versions.
        """
        super().setUp()
        self.older, self.newer = self.made(), self.made()

    def target(self, version_id: str = "", name: str = "retention") -> str:
        """
        Where the retention of a version is.
        """
        return at("locked", "k", f"{name}&versionId={version_id}" if version_id else name)

    def set(self, mode: str, days: float, *, bypass: bool = False, status: int = 200) -> None:
        """
        Set the retention of the newer version.
        """
        body = retention(mode, self.date(days)) if mode else b"<Retention/>"
        answer = self.send("PUT", self.target(), body, BYPASS if bypass else None)
        if status == 403:
            self.assert_refused(answer, 403, "AccessDenied")
        self.assertEqual(answer.status, status, answer.body)

    def retained(self, version_id: str = "") -> tuple[str | None, ...]:
        """
        Mode and end of the retention of a version.
        """
        tree = read_xml(self.send("GET", self.target(version_id), status=200))
        self.assertEqual(tree.tag, "Retention")
        return tree.findtext("Mode"), tree.findtext("RetainUntilDate")

    def test_set(self) -> None:
        """
        The retention of the current version, or of another one, is set and told.
        """
        self.refused("GET", self.target(), 404, _NOT_SET)
        body = retention("COMPLIANCE", self.date(2))
        answer = self.send("PUT", self.target(self.older), body, status=200)
        self.assertEqual((self.version(answer), answer.body), (self.older, b""))
        self.refused("GET", self.target(), 404, _NOT_SET)
        self.set("GOVERNANCE", 1)
        self.assertEqual(self.retained(), ("GOVERNANCE", self.shown(1)))
        self.assertEqual(self.retained(self.older), ("COMPLIANCE", self.shown(2)))
        self.assertEqual(self.lock_of(), ("GOVERNANCE", self.shown(1), None))
        self.assertEqual(self.lock_of("k", self.older), ("COMPLIANCE", self.shown(2), None))
        answer = self.send("GET", self.target(self.older))
        self.assertEqual(self.version(answer), self.older)

    def test_governance(self) -> None:
        """
        It can be made longer or stricter; all else needs the bypass.
        """
        self.set("GOVERNANCE", 2)
        self.set("GOVERNANCE", 3)
        for mode, days in (("GOVERNANCE", 2), ("COMPLIANCE", 2), ("", 0)):
            self.set(mode, days, status=403)
        self.assertEqual(self.retained(), ("GOVERNANCE", self.shown(3)))
        self.set("GOVERNANCE", 2, bypass=True)
        self.assertEqual(self.retained(), ("GOVERNANCE", self.shown(2)))
        self.set("", 0, bypass=True)
        self.refused("GET", self.target(), 404, _NOT_SET)
        self.assertEqual(self.lock_of(), (None, None, None))
        self.set("GOVERNANCE", 2)
        self.set("COMPLIANCE", 2)
        self.assertEqual(self.retained(), ("COMPLIANCE", self.shown(2)))

    def test_compliance(self) -> None:
        """
        It can be made longer, and nothing else, by nobody, until it is over.
        """
        self.set("COMPLIANCE", 2)
        for mode, days in (
            ("COMPLIANCE", 1),
            ("GOVERNANCE", 2),
            ("GOVERNANCE", 3),
            ("", 0),
        ):
            for bypass in (False, True):
                self.set(mode, days, bypass=bypass, status=403)
        self.set("COMPLIANCE", 2)
        self.set("COMPLIANCE", 3)
        self.assertEqual(self.retained(), ("COMPLIANCE", self.shown(3)))
        self.time.advance(3 * DAY)
        self.assertEqual(self.retained(), ("COMPLIANCE", self.shown(0)))
        self.set("GOVERNANCE", 1)
        self.assertEqual(self.retained(), ("GOVERNANCE", self.shown(1)))

    def test_bypass_permitted(self) -> None:
        """
        Who asks for the bypass needs the right to it, for this object.
        """
        self.set("GOVERNANCE", 2)
        self.forbidden = {("s3:BypassGovernanceRetention", "locked/k")}
        self.set("GOVERNANCE", 1, bypass=True, status=403)
        self.set("GOVERNANCE", 3, bypass=True, status=403)
        self.set("GOVERNANCE", 3)
        self.forbidden = {("s3:BypassGovernanceRetention", "locked/other")}
        self.set("GOVERNANCE", 1, bypass=True)

    def test_bypass_said(self) -> None:
        """
        Only the word ``true`` asks for it.
        """
        self.set("GOVERNANCE", 2)
        for word, status in (("false", 403), ("", 403), ("1", 403), ("TRUE", 200)):
            headers = dict.fromkeys(BYPASS, word)
            body = retention("GOVERNANCE", self.date(1))
            self.send("PUT", self.target(), body, headers, status=status)

    def test_shown_can_be_set(self) -> None:
        """
        What is told can be set again, whatever parts of a second a client sent.
        """
        body = retention("COMPLIANCE", self.date(1).replace("Z", ".123456789Z"))
        self.send("PUT", self.target(), body, status=200)
        mode, until = self.retained()
        self.assertEqual(until, self.date(1).replace("Z", ".124Z"))
        self.send("PUT", self.target(), retention(mode or "", until or ""), status=200)

    def test_offset(self) -> None:
        """
        A date may be that of another zone.
        """
        body = retention("GOVERNANCE", self.date(1).replace("Z", "+01:00"))
        self.send("PUT", self.target(), body, status=200)
        self.assertEqual(self.retained(), ("GOVERNANCE", self.shown(1 - 1 / 24)))

    def test_refused(self) -> None:
        """
        What is no such document, or asks for what cannot be, changes nothing.
        """
        good = retention("GOVERNANCE", self.date(1)).decode()
        mode, until = "<Mode>GOVERNANCE</Mode>", f"{self.date(1)}"
        for body in (
            "x",
            "<Other/>",
            good.replace("GOVERNANCE", "governance"),
            good.replace("GOVERNANCE", "OTHER"),
            good.replace(mode, ""),
            good.replace(mode, mode + mode),
            good.replace(f"<RetainUntilDate>{until}</RetainUntilDate>", ""),
            good.replace(until, "tomorrow"),
            good.replace(until, "2030-01-01"),
            good.replace(until, "2030-02-30T00:00:00Z"),
            good.replace(until, "2030-01-01T00:00:00"),
            good.replace(mode, f"{mode}<Other/>"),
        ):
            self.refused("PUT", self.target(), 400, "MalformedXML", body=body.encode())
        self.refused("PUT", self.target(), 400, "MissingRequestBodyError")
        for days in (0, -1, 366 * 100 + 1):
            body = retention("GOVERNANCE", self.date(days)).decode()
            self.refused("PUT", self.target(), 400, "InvalidArgument", body=body.encode())
        self.send("PUT", self.target(), retention("GOVERNANCE", self.date(365 * 100)), status=200)
        self.refused("GET", self.target(self.older), 404, _NOT_SET)

    def test_covered(self) -> None:
        """
        Documents have to be covered by a digest.
        """
        for name, body in (
            ("retention", retention("GOVERNANCE", self.date(1))),
            ("legal-hold", hold("ON")),
        ):
            target = self.target(name=name)
            answer = self.plainly("PUT", presigned("PUT", target), [], body)
            self.assert_refused(answer, 400, "InvalidRequest")
            self.refused("GET", target, 404, _NOT_SET)

    def test_absent(self) -> None:
        """
        What is not there, or is a delete marker, is told as everywhere.
        """
        marker = self.version(self.send("DELETE", at("locked", "k"), status=204))
        for name, body in (
            ("retention", retention("GOVERNANCE", self.date(1))),
            ("legal-hold", hold("ON")),
        ):
            for method in ("GET", "PUT"):
                for target, status, code in (
                    (f"/absent/k?{name}", 404, "NoSuchBucket"),
                    (f"/locked/absent?{name}", 404, "NoSuchKey"),
                    (f"/locked/k?{name}", 404, "NoSuchKey"),
                    (f"/locked/k?{name}&versionId={'0' * 32}", 404, "NoSuchVersion"),
                    (f"/locked/k?{name}&versionId={marker}", 405, "MethodNotAllowed"),
                    (f"/locked/k?{name}&versionId=x", 400, "InvalidArgument"),
                ):
                    self.refused(method, target, status, code, body=body)
            self.refused("PUT", f"/absent/k?{name}", 404, "NoSuchBucket", body=b"x")

    def test_without_lock(self) -> None:
        """
        In a bucket without object lock there is neither.
        """
        self.put("k")
        for name, body in (
            ("retention", retention("GOVERNANCE", self.date(1))),
            ("legal-hold", hold("ON")),
        ):
            for method in ("GET", "PUT"):
                target = f"/bucket/k?{name}"
                tree = self.refused(method, target, 400, "InvalidRequest", body=body)
                message = "Bucket is missing Object Lock Configuration"
                self.assertEqual(tree.findtext("Message"), message)

    def test_permitted(self) -> None:
        """
        Each is a right of its own, and who lacks it learns nothing of what is wrong.
        """
        good = retention("GOVERNANCE", self.date(1)), hold("ON")
        for name, word, body in zip(
            ("retention", "legal-hold"), ("Retention", "LegalHold"), good, strict=True
        ):
            self.forbidden = {(f"s3:PutObject{word}", "locked/k")}
            for content in (body, b"x"):
                self.refused("PUT", self.target(name=name), 403, "AccessDenied", body=content)
            self.forbidden = {(f"s3:GetObject{word}", "locked/k")}
            self.send("PUT", self.target(name=name), body, status=200)
            self.refused("GET", self.target(name=name), 403, "AccessDenied")
        self.forbidden = {("s3:GetObjectRetention", "locked/k")}
        self.assertEqual(self.lock_of(), (None, None, "ON"))
        self.forbidden = {("s3:GetObjectLegalHold", "locked/k")}
        self.assertEqual(self.lock_of(), ("GOVERNANCE", self.shown(1), None))

    def test_legal_hold(self) -> None:
        """
        A hold is put on a version and lifted at any time, whatever the retention is, which stays.
        """
        target = self.target(self.older, "legal-hold")
        self.refused("GET", target, 404, _NOT_SET)
        for mode in ("GOVERNANCE", "COMPLIANCE"):
            body = retention(mode, self.date(1))
            self.send("PUT", self.target(self.older), body, status=200)
            for status in ("ON", "ON", "OFF"):
                answer = self.send("PUT", target, hold(status), status=200)
                self.assertEqual((self.version(answer), answer.body), (self.older, b""))
                tree = read_xml(self.send("GET", target, status=200))
                self.assertEqual((tree.tag, tree.findtext("Status")), ("LegalHold", status))
                expected = (mode, self.shown(1), status)
                self.assertEqual(self.lock_of("k", self.older), expected)
        self.send("PUT", target, hold("ON"), status=200)
        self.send("PUT", self.target(self.older), retention("COMPLIANCE", self.date(2)), status=200)
        self.assertEqual(self.lock_of("k", self.older), ("COMPLIANCE", self.shown(2), "ON"))
        for body in (b"x", b"<LegalHold/>", hold("on"), hold(""), hold("ON") * 2):
            self.refused("PUT", target, 400, "MalformedXML", body=body)
        self.assertEqual(self.lock_of(), (None, None, None))
