# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.lifecycle`` and ``kypello.s3.lifecyclerules``.
"""

from twisted.internet.defer import Deferred
from twisted.web.http import stringToDatetime

from kypello.lifecycle.rules import SETTING
from kypello.testing.harness import Answer
from tests.s3.front import FrontCase, at, read_xml, texts

_TARGET = "/bucket?lifecycle"
_DAY = 24 * 60 * 60
_DAYS = "<Expiration><Days>3</Days></Expiration>"

#: Rules that are shown as they were set.
_SHAPES = (
    f"<ID>a</ID><Filter></Filter><Status>Enabled</Status>{_DAYS}",
    f"<ID>a</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>{_DAYS}",
    f"<ID>a</ID><Prefix>old/</Prefix><Status>Disabled</Status>{_DAYS}",
    f"<ID>a</ID><Prefix></Prefix><Status>Enabled</Status>{_DAYS}",
    f"<ID>a &amp; b</ID><Filter><Prefix>&lt;x</Prefix></Filter><Status>Enabled</Status>{_DAYS}",
    "<ID>a</ID><Filter><Tag><Key>k</Key><Value></Value></Tag></Filter><Status>Enabled</Status>"
    f"{_DAYS}",
    "<ID>a</ID><Filter><ObjectSizeGreaterThan>0</ObjectSizeGreaterThan></Filter>"
    f"<Status>Enabled</Status>{_DAYS}",
    "<ID>a</ID><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>"
    "<Tag><Key>l</Key><Value>w</Value></Tag><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>"
    "<ObjectSizeLessThan>500</ObjectSizeLessThan></And></Filter><Status>Enabled</Status>"
    f"{_DAYS}",
    "<ID>a</ID><Filter></Filter><Status>Enabled</Status>"
    "<Expiration><Date>2019-05-01T00:00:00.000Z</Date></Expiration>",
    "<ID>a</ID><Filter></Filter><Status>Enabled</Status>"
    "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
    "<ID>a</ID><Filter></Filter><Status>Enabled</Status><Expiration><Days>7</Days>"
    "<ExpiredObjectAllVersions>true</ExpiredObjectAllVersions></Expiration>",
    "<ID>a</ID><Filter></Filter><Status>Enabled</Status>"
    "<DelMarkerExpiration><Days>7</Days></DelMarkerExpiration>",
    "<ID>a</ID><Filter></Filter><Status>Enabled</Status><NoncurrentVersionExpiration>"
    "<NoncurrentDays>4</NoncurrentDays><NewerNoncurrentVersions>2</NewerNoncurrentVersions>"
    "</NoncurrentVersionExpiration><AbortIncompleteMultipartUpload>"
    "<DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
)


def configuration(*rules: str) -> bytes:
    """
    A document with rules.
    """
    content = "".join(f"<Rule>{rule}</Rule>" for rule in rules)
    return f"<LifecycleConfiguration>{content}</LifecycleConfiguration>".encode()


def rule(content: str = _DAYS, head: str = "<Filter/>", status: str = "Enabled") -> str:
    """
    A rule that is not further of interest.
    """
    return f"{head}<Status>{status}</Status>{content}"


class LifecycleTests(FrontCase):
    """
    Rules as clients set them, and see them.
    """

    def set(self, *rules: str) -> Answer:
        """
        Set rules.
        """
        return self.send("PUT", _TARGET, configuration(*rules), status=200)

    def test_shapes(self) -> None:
        """
        A rule is shown in the shape in which it was set.
        """
        for shape in _SHAPES:
            self.set(shape)
            answer = self.send("GET", _TARGET, status=200)
            self.assertIn(f"<Rule>{shape}</Rule>".encode(), answer.body)

    def test_lifecycle(self) -> None:
        """
        Rules are set, replaced as a whole, told in their order, and removed.
        """
        answer = self.set(rule(head="<ID>z</ID><Filter/>"), rule(head="<ID>a</ID><Filter/>"))
        minimum = "x-amz-transition-default-minimum-object-size"
        self.assertEqual(answer.header(minimum), "all_storage_classes_128K")
        answer = self.send("GET", f"{_TARGET}=&withUpdatedAt=true", status=200)
        self.assertEqual(answer.header(minimum), "all_storage_classes_128K")
        self.assertRegex(
            answer.header("X-Minio-LifecycleConfig-UpdatedAt") or "", r"^\d{8}T\d{6}Z$"
        )
        self.assertEqual(texts(read_xml(answer), "Rule/ID"), ["z", "a"])
        body = configuration(rule())
        headers = {minimum: "varies_by_storage_class"}
        self.send("PUT", _TARGET, body, headers, status=200)
        answer = self.send("GET", _TARGET, status=200)
        self.assertEqual(answer.header(minimum), "varies_by_storage_class")
        self.assertEqual(len(texts(read_xml(answer), "Rule/ID")), 1)
        for _ in range(2):
            self.send("DELETE", _TARGET, status=204)
            self.refused("GET", _TARGET, 404, "NoSuchLifecycleConfiguration")
        self.refused("PUT", "/absent?lifecycle", 404, "NoSuchBucket", body=body)
        self.refused("PUT", _TARGET, 400, "InvalidArgument", body=body, headers={minimum: "small"})

    def test_generated_ids(self) -> None:
        """
        Rules without an id get different ones.
        """
        self.set(rule(), rule(head="<ID></ID><Filter/>"))
        ids = texts(read_xml(self.send("GET", _TARGET)), "Rule/ID")
        self.assertEqual((len(set(ids)), all(ids)), (2, True))

    def test_refused(self) -> None:
        """
        What is wrong is refused with the code that S3 has for it, and what was set stays.
        """
        self.set(rule(head="<ID>kept</ID><Filter/>"))
        long = "x" * 256
        for code, body in (
            ("MalformedXML", b"<LifecycleConfiguration"),
            ("MalformedXML", configuration()),
            ("MalformedXML", configuration(*[rule()] * 1001)),
            ("MalformedXML", configuration(f"<Filter/>{_DAYS}")),
            ("MalformedXML", configuration(rule(status="enabled"))),
            ("MalformedXML", configuration(rule(head="<Filter/><Prefix/>"))),
            ("MalformedXML", configuration(rule(head="<Filter/><Filter/>"))),
            ("MalformedXML", configuration(rule(head="<Filter/><Odd/>"))),
            ("InvalidArgument", configuration(*[rule(head="<ID>a</ID><Filter/>")] * 2)),
            ("InvalidArgument", configuration(rule(head=f"<ID>{long}</ID><Filter/>"))),
            ("InvalidRequest", configuration(rule(""))),
            ("InvalidStorageClass", configuration(rule("<Transition><Days>1</Days></Transition>"))),
        ):
            self.refused("PUT", _TARGET, 400, code, body=body)
        self.assertEqual(texts(read_xml(self.send("GET", _TARGET)), "Rule/ID"), ["kept"])

    def test_refused_actions(self) -> None:
        """
        Actions that make no sense are refused.
        """

        def expiration(content: str) -> str:
            return f"<Expiration>{content}</Expiration>"

        def replaced(content: str) -> str:
            return f"<NoncurrentVersionExpiration>{content}</NoncurrentVersionExpiration>"

        for code, content in (
            ("InvalidArgument", expiration("<Days>0</Days>")),
            ("InvalidArgument", expiration("<Days>-3</Days>")),
            ("MalformedXML", expiration("<Days>x</Days>")),
            ("MalformedXML", expiration("<Days>99999999999</Days>")),
            ("MalformedXML", expiration("")),
            ("MalformedXML", expiration("<Days>1</Days><Date>2030-01-01</Date>")),
            ("MalformedXML", expiration("<Date>soon</Date>")),
            ("MalformedXML", expiration("<Date>2030-13-01</Date>")),
            ("InvalidArgument", expiration("<Date>2030-01-01T01:00:00Z</Date>")),
            (
                "MalformedXML",
                expiration("<ExpiredObjectDeleteMarker>1</ExpiredObjectDeleteMarker>"),
            ),
            (
                "MalformedXML",
                expiration("<ExpiredObjectAllVersions>true</ExpiredObjectAllVersions>"),
            ),
            ("MalformedXML", replaced("")),
            ("InvalidArgument", replaced("<NoncurrentDays>0</NoncurrentDays>")),
            ("InvalidArgument", replaced("<NewerNoncurrentVersions>0</NewerNoncurrentVersions>")),
            ("InvalidArgument", replaced("<NewerNoncurrentVersions>101</NewerNoncurrentVersions>")),
            ("MalformedXML", "<DelMarkerExpiration/>"),
            ("MalformedXML", "<AbortIncompleteMultipartUpload/>"),
        ):
            self.refused("PUT", _TARGET, 400, code, body=configuration(rule(content)))
        for date in ("2030-01-01", "2030-01-01T00:00:00Z", "2029-12-31T23:00:00.000-01:00"):
            self.set(rule(f"<Expiration><Date>{date}</Date></Expiration>"))
            (shown,) = texts(read_xml(self.send("GET", _TARGET)), "Rule/Expiration/Date")
            self.assertEqual(shown, "2030-01-01T00:00:00.000Z")

    def test_refused_filters(self) -> None:
        """
        Filters that make no sense are refused.
        """
        tag = "<Tag><Key>k</Key><Value>v</Value></Tag>"
        sizes = (
            "<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>"
            "<ObjectSizeLessThan>6</ObjectSizeLessThan>"
        )
        aborting = (
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>"
            "</AbortIncompleteMultipartUpload>"
        )
        orphans = (
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        )
        for code, content, action in (
            ("MalformedXML", f"<Prefix>p</Prefix>{tag}", _DAYS),
            ("MalformedXML", f"<And>{tag}</And>", _DAYS),
            ("MalformedXML", "<Tag><Key>k</Key></Tag>", _DAYS),
            ("MalformedXML", "<And><Prefix>a</Prefix><Prefix>b</Prefix></And>", _DAYS),
            ("InvalidRequest", f"<And>{tag}{tag}</And>", _DAYS),
            ("InvalidRequest", f"<And>{sizes}</And>", _DAYS),
            ("InvalidTag", "<Tag><Key></Key><Value>v</Value></Tag>", _DAYS),
            ("InvalidRequest", tag, aborting),
            ("InvalidRequest", tag, orphans),
            ("InvalidRequest", "<ObjectSizeLessThan>6</ObjectSizeLessThan>", aborting),
        ):
            body = configuration(rule(action, f"<Filter>{content}</Filter>"))
            self.refused("PUT", _TARGET, 400, code, body=body)

    def test_expiration_header(self) -> None:
        """
        Who stores or reads a current version is told when it expires, and by which rule.
        """
        self.set(
            rule(head="<ID>slow</ID><Filter/>"),
            rule(
                "<Expiration><Days>1</Days></Expiration>",
                "<ID>quick one</ID><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>",
            ),
        )
        plain, tagged = self.put("plain"), self.put("tagged", x_amz_tagging="k=v")
        now = self.clock.seconds()
        for answer, days, name in (
            (plain, 3, "slow"),
            (self.send("HEAD", at("bucket", "plain")), 3, "slow"),
            (self.send("GET", at("bucket", "plain")), 3, "slow"),
            (tagged, 1, "quick%20one"),
        ):
            date = (int(now / _DAY) + days + 1) * _DAY
            told = answer.header("x-amz-expiration") or ""
            self.assertTrue(told.endswith(f', rule-id="{name}"'), told)
            shown = told.split('"')[1]
            self.assertEqual(stringToDatetime(shown.encode()), date)
        answer = self.send("GET", at("bucket", "plain", "versionId=null"), status=200)
        self.assertIsNone(answer.header("x-amz-expiration"))
        copied = self.send(
            "PUT", at("bucket", "copy"), headers={"x-amz-copy-source": "bucket/plain"}, status=200
        )
        self.assertIn("slow", copied.header("x-amz-expiration") or "")

    def test_no_expiration_header(self) -> None:
        """
        Without a rule that is about it, nothing is told.
        """
        self.set(rule(status="Disabled"), rule(head="<Filter><Prefix>p/</Prefix></Filter>"))
        self.assertIsNone(self.put("k").header("x-amz-expiration"))
        self.assertIsNotNone(self.put("p/k").header("x-amz-expiration"))

    def test_damaged(self) -> None:
        """
        Rules that cannot be read are told as such by who needs them.
        """
        self.set(rule())
        self.put("k")
        work = self.store.change_bucket("bucket", lambda old: {**old, SETTING: b"x"})
        self.successResultOf(Deferred.fromCoroutine(work))
        self.refused("GET", _TARGET, 500, "InternalError")
