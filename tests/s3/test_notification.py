# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.s3.notification``, over the wire.
"""

from typing import Any
from xml.etree.ElementTree import Element

from twisted.internet.defer import Deferred

from kypello.eventconfig import EventSettings, WebhookSettings
from kypello.events.rules import SETTING, targets_of
from kypello.model import BucketInfo
from tests.s3.front import FrontCase, read_xml, texts

_TARGETS = EventSettings(
    (WebhookSettings("ONE", "http://one/"), WebhookSettings("TWO", "http://two/"))
)
_ONE = "arn:minio:sqs::ONE:webhook"
_TWO = "arn:minio:sqs:us-east-1:TWO:webhook"


def rule(
    arn: str = _ONE, *events: str, prefix: str | None = None, suffix: str = "", name: str = ""
) -> str:
    """
    A rule.
    """
    filters = ""
    for kind, value in (("Prefix", prefix or ""), ("suffix", suffix)):
        if value or (kind == "Prefix" and prefix is not None):
            filters += f"<FilterRule><Name>{kind}</Name><Value>{value}</Value></FilterRule>"
    return (
        "<QueueConfiguration>"
        + (name and f"<Id>{name}</Id>")
        + f"<Queue>{arn}</Queue>"
        + "".join(f"<Event>{event}</Event>" for event in events or ("s3:ObjectCreated:*",))
        + (filters and f"<Filter><S3Key>{filters}</S3Key></Filter>")
        + "</QueueConfiguration>"
    )


def document(*rules: str) -> bytes:
    """
    What is set.
    """
    content = "".join(rules)
    return f"<NotificationConfiguration>{content}</NotificationConfiguration>".encode()


class NotificationTests(FrontCase):
    """
    Rules of a bucket.
    """

    def serve(self, **options: Any) -> None:
        """
        Serve with two targets.
        """
        super().serve(**{"targets": _TARGETS, **options})

    def set(self, *rules: str) -> None:
        """
        Set rules.
        """
        self.send("PUT", "/bucket?notification", document(*rules), status=200)

    def shown(self) -> Element:
        """
        What is set.
        """
        return read_xml(self.send("GET", "/bucket?notification", status=200))

    def bucket(self) -> BucketInfo:
        """
        The bucket as it is kept.
        """
        return self.successResultOf(Deferred.fromCoroutine(self.store.bucket("bucket")))

    def refused(self, *arguments: Any, **named: Any) -> Element:
        """
        See that a request is refused, and nothing has changed.
        """
        before = self.bucket().settings
        tree = super().refused(*arguments, **named)
        self.assertEqual(self.bucket().settings, before)
        return tree

    def test_life(self) -> None:
        """
        Rules are shown as they were set, with a name each, count for events, and end with an empty
        document.
        """
        self.assertEqual(list(self.shown()), [])
        self.set(
            rule(_ONE, "s3:ObjectCreated:Put", "s3:ObjectRemoved:*", prefix="a/", suffix=".x"),
            rule(_TWO, name="mine", prefix=""),
        )
        tree = self.shown()
        self.assertEqual(texts(tree, "QueueConfiguration/Queue"), [_ONE, _TWO])
        self.assertEqual(
            texts(tree, "QueueConfiguration/Event"),
            ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*", "s3:ObjectCreated:*"],
        )
        names = texts(tree, "QueueConfiguration/Filter/S3Key/FilterRule/Name")
        values = texts(tree, "QueueConfiguration/Filter/S3Key/FilterRule/Value")
        self.assertEqual(names, ["prefix", "suffix", "prefix"])
        self.assertEqual(values, ["a/", ".x", ""])
        first, second = texts(tree, "QueueConfiguration/Id")
        self.assertTrue(first)
        self.assertEqual(second, "mine")
        kept = self.bucket().settings[SETTING]
        self.assertEqual(targets_of(kept, "s3:ObjectCreated:Put", "a/b.x"), {"ONE", "TWO"})
        self.set()
        self.assertNotIn(SETTING, self.bucket().settings)
        self.assertEqual(list(self.shown()), [])

    def test_shown_can_be_set(self) -> None:
        """
        What is shown can be set, and then is the same.
        """
        self.set(rule(suffix="&lt;&amp;"), rule(_TWO, "s3:ObjectAccessed:Get"))
        shown = self.send("GET", "/bucket?notification").body
        self.send("PUT", "/bucket?notification", shown, status=200)
        self.assertEqual(self.send("GET", "/bucket?notification").body, shown)

    def test_names(self) -> None:
        """
        A rule without a name gets the same one each time, and another than other rules.
        """
        self.set(rule(prefix="a"), rule(prefix="b"))
        names = texts(self.shown(), "QueueConfiguration/Id")
        self.set(rule(prefix="a"), rule(prefix="b"))
        self.assertEqual(texts(self.shown(), "QueueConfiguration/Id"), names)
        self.assertEqual(len(set(names)), 2)

    def test_fan_out(self) -> None:
        """
        The same events may be sent to several targets.
        """
        self.set(rule(_ONE), rule(_TWO))

    def test_overlapping(self) -> None:
        """
        Rules by which an event would be sent twice to one target are refused.
        """
        for rules in (
            (rule(), rule()),
            (rule(), rule("arn:minio:sqs:us-east-1:ONE:webhook", "s3:ObjectCreated:Put")),
            (rule(prefix="a"), rule(prefix="ab")),
            (rule(suffix="b"), rule(suffix="ab")),
            (rule(prefix="a"), rule(suffix="b")),
        ):
            tree = self.refused(
                "PUT", "/bucket?notification", 400, "InvalidArgument", body=document(*rules)
            )
            self.assertIn("overlapping", tree.findtext("Message") or "")
        self.set(rule(prefix="a"), rule(prefix="b"), rule(_ONE, "s3:ObjectRemoved:*"))

    def test_targets(self) -> None:
        """
        A target that is not configured is refused.
        """
        topic = rule().replace("Queue>", "Topic>").replace("QueueC", "TopicC")
        function = rule().replace("Queue>", "CloudFunction>").replace("QueueC", "CloudFunctionC")
        for one in (
            rule("arn:minio:sqs::THREE:webhook"),
            rule("arn:minio:sqs:eu-1:ONE:webhook"),
            rule("arn:minio:sqs::ONE:kafka"),
            rule("nonsense"),
            rule(""),
            topic,
            function,
            "<EventBridgeConfiguration/>",
        ):
            tree = self.refused(
                "PUT", "/bucket?notification", 400, "InvalidArgument", body=document(rule(), one)
            )
            self.assertIn("ARN", tree.findtext("Message") or "", one)

    def test_mistakes(self) -> None:
        """
        Unknown events and filters are refused, and what is no such document.
        """
        extra = "<FilterRule><Name>%s</Name><Value>x</Value></FilterRule></S3Key>"
        filtered = rule(prefix="a")
        for body, code in (
            (document(rule(_ONE, "s3:ObjectCreated")), "InvalidArgument"),
            (document(rule(_ONE, "s3:*")), "InvalidArgument"),
            (document(rule(_ONE, "s3:ObjectCreated:Put", "nonsense")), "InvalidArgument"),
            (document(filtered.replace("</S3Key>", extra % "infix")), "InvalidArgument"),
            (document(filtered.replace("</S3Key>", extra % "prefix")), "InvalidArgument"),
            (document(rule(prefix="x" * 1025)), "InvalidArgument"),
            (document(rule(name="x" * 256)), "InvalidArgument"),
            (document(rule().replace("<Event>s3:ObjectCreated:*</Event>", "")), "MalformedXML"),
            (document(rule().replace("Event>", "Vent>")), "MalformedXML"),
            (document(rule().replace("<Queue>", "<Queue/><Queue>")), "MalformedXML"),
            (document(f"<Queue>{_ONE}</Queue>"), "MalformedXML"),
            (b"<Other/>", "MalformedXML"),
            (b"nonsense", "MalformedXML"),
        ):
            self.refused("PUT", "/bucket?notification", 400, code, body=body)
        self.refused("PUT", "/absent?notification", 404, "NoSuchBucket", body=document())
        self.refused("GET", "/absent?notification", 404, "NoSuchBucket")
