# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A record of every request, and a word about every refusal.

Neither bodies nor anything else that may be secret is ever recorded.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import define, frozen
from twisted.logger import Logger

from kypello.kes.policy import Decision


@define(eq=False)
class Event:
    """
    What is known about one request; it grows while the request is served.

    :ivar ip: Where it came from.
    :ivar path: Percent-decoded.
    :ivar identity: Who asked; empty while, or when, nobody knows.
    :ivar key: The key that it is about; empty for none.
    """

    method: str
    path: str
    ip: str
    identity: str = ""
    key: str = ""


@frozen
class Audit:
    """
    Where requests are recorded.

    The text of a record is JSON with the members that tools for KES's audit log read, and some
    more; its parts are fields of the log event as well.

    :ivar _log: For the records; they are on the level ``info``.
    :ivar _trail: Called with each record.
    """

    _log: Logger
    _trail: Callable[[str], object] = lambda _record: None

    def record(self, event: Event, status: int, began: float, latency: float) -> None:
        """
        Tell about a request that is over.

        :param status: What was answered; ``0`` when the client went away before.
        :param began: When it came, seconds since the epoch.
        :param latency: How long it took, in seconds.
        """
        time = datetime.fromtimestamp(began, UTC).isoformat().replace("+00:00", "Z")
        record: dict[str, Any] = {
            "time": time,
            "request": {
                "ip": event.ip,
                "method": event.method,
                "path": event.path,
                "identity": event.identity,
                "key": event.key,
            },
            "response": {"code": status, "time": round(latency * 1e9)},
        }
        text = json.dumps(record, separators=(",", ":"))
        self._trail(text)
        self._log.info(
            "{audit}",
            audit=text,
            identity=event.identity,
            method=event.method,
            path=event.path,
            key=event.key,
            status=status,
            latency=latency,
        )


def warn_of_refusal(log: Logger, event: Event, decision: Decision) -> None:
    """
    Tell the operator which rule was missing, or in the way: the client is not told.
    """
    if not decision.policy:
        reason = "no policy names this identity"
    elif decision.denied:
        reason = "policy {policy!r} denies it by {rule!r}"
    elif decision.rule:
        reason = "policy {policy!r} does not allow it; its nearest rule is {rule!r}"
    else:
        reason = "policy {policy!r} allows nothing"
    log.warn(
        "refused {method} {path!r} from {ip} as {identity}: " + reason,
        method=event.method,
        path=event.path,
        ip=event.ip,
        identity=event.identity,
        policy=decision.policy,
        rule=decision.rule,
    )
