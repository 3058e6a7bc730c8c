# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.eventconfig``.
"""

from pathlib import Path

from kypello.environment import Environment
from kypello.eventconfig import DEFAULT_LIMIT, MOST_TARGETS, EventSettings, read_events
from tests.cases import SyncCase

_HOOK = "MINIO_NOTIFY_WEBHOOK_"
_URL = "https://app.example.com:8443/events?from=here"


class EventSettingsTests(SyncCase):
    """
    Variables, and what they mean.
    """

    def read(self, **variables: str) -> EventSettings:
        """
        Understand variables, whose names are told without what all begin with.
        """
        given = {_HOOK + name: value for name, value in variables.items()}
        files = {"/token": "from a file\n"}
        self.environment = Environment.load(given, files.get)
        return read_events(self.environment)

    def test_whole(self) -> None:
        """
        A target has all that can be set, and its token is in no repr.
        """
        settings = self.read(
            ENABLE_APP="on",
            ENDPOINT_APP=_URL,
            AUTH_TOKEN_APP="secret-token",
            QUEUE_LIMIT_APP="17",
            CLIENT_CERT_APP="/cert.pem",
            CLIENT_KEY_APP="/key.pem",
            COMMENT_APP="anything",
        )
        (webhook,) = settings.webhooks
        self.assertEqual((webhook.name, webhook.endpoint), ("APP", _URL))
        self.assertEqual((webhook.token, webhook.limit), ("secret-token", 17))
        self.assertEqual(webhook.client_cert, Path("/cert.pem"))
        self.assertEqual(webhook.client_key, Path("/key.pem"))
        self.assertNotIn("secret-token", repr(settings))
        self.assertEqual((self.environment.mistakes, self.environment.warnings), ([], []))

    def test_arn(self) -> None:
        """
        Rules name a target with the region of the server, or without one, and not otherwise.
        """
        settings = self.read(ENABLE_APP="on", ENDPOINT_APP=_URL, ENABLE="on", ENDPOINT=_URL)
        self.assertEqual([one.name for one in settings.webhooks], ["APP", "_"])
        for arn, region, name in (
            ("arn:minio:sqs::APP:webhook", None, "APP"),
            ("arn:minio:sqs:us-east-1:APP:webhook", None, "APP"),
            ("arn:minio:sqs:eu-1:APP:webhook", "eu-1", "APP"),
            ("arn:minio:sqs::_:webhook", "eu-1", "_"),
            ("arn:minio:sqs:us-east-1:APP:webhook", "eu-1", None),
            ("arn:minio:sqs::OTHER:webhook", None, None),
            ("arn:minio:sqs::APP:kafka", None, None),
            ("arn:aws:sqs:us-east-1:123456789012:APP", None, None),
            ("", None, None),
        ):
            self.assertEqual(settings.target(arn, region), name, arn)

    def test_disabled(self) -> None:
        """
        What is not enabled is no target, and may be wrong.
        """
        self.assertEqual(self.read(ENDPOINT_APP="nonsense", ENABLE_OTHER="off").webhooks, ())
        self.assertEqual(self.environment.mistakes, [])

    def test_token_file(self) -> None:
        """
        A token may be kept in a file.
        """
        settings = self.read(ENABLE_APP="on", ENDPOINT_APP=_URL, AUTH_TOKEN_APP_FILE="/token")
        self.assertEqual(settings.webhooks[0].token, "from a file")

    def test_mistakes(self) -> None:
        """
        Each mistake names its variable, and no secret.
        """
        for variables, named in (
            ({"ENDPOINT_APP": ""}, "ENDPOINT_APP"),
            ({"ENDPOINT_APP": "ftp://host/"}, "ENDPOINT_APP"),
            ({"ENDPOINT_APP": "https://"}, "ENDPOINT_APP"),
            ({"ENDPOINT_APP": "https://host:port/"}, "ENDPOINT_APP"),
            ({"ENDPOINT_APP": "https://user:hidden@host/"}, "ENDPOINT_APP"),
            ({"QUEUE_LIMIT_APP": "-1"}, "QUEUE_LIMIT_APP"),
            ({"QUEUE_LIMIT_APP": "99999999999999"}, "QUEUE_LIMIT_APP"),
            ({"CLIENT_CERT_APP": "/cert"}, "CLIENT_KEY_APP"),
            ({"CLIENT_KEY_APP": "/key"}, "CLIENT_CERT_APP"),
            ({"AUTH_TOKEN_APP": "hidden\nhidden"}, "AUTH_TOKEN_APP"),
        ):
            self.read(**{"ENABLE_APP": "on", "ENDPOINT_APP": _URL, **variables})
            (mistake,) = self.environment.mistakes
            self.assertIn(_HOOK + named, mistake)
            self.assertNotIn("hidden", mistake)
        self.read(ENABLE_APP="perhaps")
        self.assertIn("ENABLE_APP", self.environment.mistakes[0])

    def test_many(self) -> None:
        """
        There is an end to how many there may be.
        """
        many = {f"ENABLE_{number}": "on" for number in range(MOST_TARGETS + 1)}
        many |= {f"ENDPOINT_{number}": _URL for number in range(MOST_TARGETS + 1)}
        self.read(**many)
        self.assertEqual(len(self.environment.mistakes), 1)

    def test_ignored(self) -> None:
        """
        What has no effect is told, but for what is not enabled.
        """
        settings = self.read(
            ENABLE_APP="on", ENDPOINT_APP=_URL, QUEUE_DIR_APP="/events", RETRIES_APP="3"
        )
        self.assertEqual(settings.webhooks[0].limit, DEFAULT_LIMIT)
        told = " ".join(self.environment.warnings)
        self.assertIn("QUEUE_DIR_APP", told)
        self.assertIn("RETRIES_APP", told)

    def test_other_kinds(self) -> None:
        """
        A target of another kind does not stop the server, and is told by the name of its variable.
        """
        variables = {
            "MINIO_NOTIFY_KAFKA_ENABLE_A": "on",
            "MINIO_NOTIFY_KAFKA_BROKERS_A": "host:9092",
            "KYPELLO_NOTIFY_REDIS_ENABLE": "on",
            "MINIO_NOTIFY_NATS_ENABLE_B": "off",
        }
        environment = Environment.load(variables, {}.get)
        self.assertEqual(read_events(environment).webhooks, ())
        self.assertEqual(environment.mistakes, [])
        first, second = environment.warnings
        self.assertIn("MINIO_NOTIFY_KAFKA_ENABLE_A", first)
        self.assertIn("MINIO_NOTIFY_REDIS_ENABLE", second)
