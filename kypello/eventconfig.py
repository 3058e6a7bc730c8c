# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Settings of where events are sent.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.environment import Environment

#: How many events wait for a target unless another limit is set, and how many may be set.
DEFAULT_LIMIT = 100_000
_HIGHEST = 10_000_000

#: How many targets there may be: of each some numbers are counted.
MOST_TARGETS = 100

_NOTIFY, _WEBHOOK = "MINIO_NOTIFY_", "MINIO_NOTIFY_WEBHOOK_"
_FIELDS = (
    "AUTH_TOKEN",
    "CLIENT_CERT",
    "CLIENT_KEY",
    "COMMENT",
    "ENABLE",
    "ENDPOINT",
    "QUEUE_DIR",
    "QUEUE_LIMIT",
)
_NAME = re.compile(rf"({'|'.join(_FIELDS)})(?:_(.+))?")

#: The target whose variables have no name at their end.
_UNNAMED = "_"


@frozen
class WebhookSettings:
    """
    A server that is told events by requests.

    :ivar name: As its variables end, ``_`` for the one without.
    :ivar endpoint: The URL.
    :ivar token: What its ``Authorization`` header says, or the bearer token in it; empty for none.
    :ivar limit: How many events may wait for it.
    :ivar client_cert: The certificate by which it knows us, with its key; ``None`` for none.
    """

    name: str
    endpoint: str
    token: str = field(default="", repr=False)
    limit: int = DEFAULT_LIMIT
    client_cert: Path | None = None
    client_key: Path | None = None

    def arn(self, region: str) -> str:
        """
        How rules of buckets name it.

        :param region: Of the server; empty for none.
        """
        return f"arn:minio:sqs:{region}:{self.name}:webhook"


@frozen
class EventSettings:
    """
    Where events are sent.
    """

    webhooks: tuple[WebhookSettings, ...] = ()

    def target(self, arn: str, region: str | None) -> str | None:
        """
        The name of the target that an ARN names; ``None`` when there is none.

        :param region: Of the server; an ARN may leave it out.
        """
        for webhook in self.webhooks:
            if arn in (webhook.arn(""), webhook.arn(region or "us-east-1")):
                return webhook.name
        return None


def read_events(environment: Environment) -> EventSettings:
    """
    Understand the settings; mistakes go to the environment's list.
    """
    names: set[str] = set()
    for variable in environment.named(_NOTIFY):
        if not variable.startswith(_WEBHOOK):
            _warn_of_others(environment, variable)
            continue
        known = _NAME.fullmatch(variable.removeprefix(_WEBHOOK))
        if known is None:
            environment.warnings.append(f"{variable} is unknown, so it is ignored.")
        elif known[1] == "ENABLE" and environment.flag(variable):
            names.add(known[2] or _UNNAMED)
    if len(names) > MOST_TARGETS:
        environment.mistakes.append(
            f"There are {len(names)} targets of events ({_WEBHOOK}ENABLE_...), and may be"
            f" {MOST_TARGETS}."
        )
    read = [_read_webhook(environment, name) for name in sorted(names)]
    return EventSettings(tuple(webhook for webhook in read if webhook is not None))


def _warn_of_others(environment: Environment, variable: str) -> None:
    kind = variable.removeprefix(_NOTIFY).partition("_")[0].lower()
    if "_ENABLE" in variable and environment.flag(variable):
        environment.warnings.append(
            f"{variable}: Kypello sends events to webhooks only, so there is no target of the kind"
            f" {kind}, and rules of buckets that name one are refused. docs/events.md tells how to"
            " reach it."
        )


def _read_webhook(environment: Environment, name: str) -> WebhookSettings | None:
    def variable(field_name: str) -> str:
        return f"{_WEBHOOK}{field_name}" + ("" if name == _UNNAMED else f"_{name}")

    endpoint = (environment.text(variable("ENDPOINT")) or "").strip()
    if not _is_url(endpoint):
        # The text is not repeated: it may hold a password.
        environment.mistakes.append(
            f"{variable('ENDPOINT')} has to be a URL such as https://app.example.com/events,"
            " without a user in it."
        )
        return None
    if environment.text(variable("QUEUE_DIR")):
        environment.warnings.append(
            f"{variable('QUEUE_DIR')} is ignored: events wait in the data directory."
        )
    token = environment.secret(variable("AUTH_TOKEN")) or ""
    if not (token.isascii() and token.isprintable()):
        environment.mistakes.append(f"{variable('AUTH_TOKEN')} must have printable characters.")
    cert, key = (environment.text(variable(one)) or "" for one in ("CLIENT_CERT", "CLIENT_KEY"))
    if bool(cert) != bool(key):
        environment.mistakes.append(
            f"{variable('CLIENT_CERT')} and {variable('CLIENT_KEY')} go together: set both or none."
        )
    return WebhookSettings(
        name,
        endpoint,
        token,
        _limit(environment, variable("QUEUE_LIMIT")),
        Path(cert) if cert else None,
        Path(key) if key else None,
    )


def _limit(environment: Environment, variable: str) -> int:
    text = (environment.text(variable) or "").strip()
    if text in ("", "0"):
        return DEFAULT_LIMIT
    if text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= _HIGHEST:
        return int(text)
    environment.mistakes.append(f"{variable} has to be a number from 1 to {_HIGHEST}.")
    return DEFAULT_LIMIT


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0
        and parts.username is None
        and text.isascii()
        and text.isprintable()
        and " " not in text
    )
