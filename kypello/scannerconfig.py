# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Settings of the work in the background: how hard it works, and what it removes by itself.
"""

from collections.abc import Mapping

from attrs import field, frozen

from kypello.document import parse_duration
from kypello.environment import Environment

#: The seconds of a day.
DAY = 24 * 60 * 60

_SPEED = "MINIO_SCANNER_SPEED"
_CYCLE = "MINIO_SCANNER_CYCLE"
_STALE = "MINIO_API_STALE_UPLOADS_EXPIRY"
_DAY = "MINIO_LIFECYCLE_DAY"
_DEFAULT = "default"

#: How long it takes at least until a small store is counted again, in seconds.
_SOON = 5.0


@frozen
class Pace:
    """
    How hard the scanner works.

    :ivar rest: How long it rests after a page, in times of what the page took.
    :ivar cycle: How long it takes from the begin of a round to that of the next one, at least, in
        seconds.
    :ivar least: The same where a round is short, for what is counted, in seconds.
    """

    rest: float = 9.0
    cycle: float = 60.0
    least: float = field()

    @least.default
    def _no_less(self) -> float:
        return self.cycle


#: By MinIO's names.
PACES: Mapping[str, Pace] = {
    "fastest": Pace(0.0, 1.0),
    "fast": Pace(1.0, 60.0, _SOON),
    _DEFAULT: Pace(9.0, 60.0, _SOON),
    "slow": Pace(29.0, 60.0),
    "slowest": Pace(99.0, 30 * 60.0),
}


@frozen
class ScannerSettings:
    """
    What happens in the background.

    :ivar stale: How long nothing may come for an unfinished upload that no rule is about, until it
        is aborted, in seconds; ``None`` for ever.
    :ivar day: What counts as a day in the rules of lifecycles, in seconds.
    """

    pace: Pace = PACES[_DEFAULT]
    stale: float | None = 7.0 * DAY
    day: int = DAY


def read_scanner(environment: Environment) -> ScannerSettings:
    """
    Understand the settings; mistakes go to the environment's list.
    """
    speed = environment.text(_SPEED) or _DEFAULT
    pace = PACES.get(speed)
    if pace is None:
        environment.mistakes.append(
            f"{_SPEED} is {speed!r}, and has to be one of {', '.join(PACES)}."
        )
        pace = Pace()
    cycle = _duration(environment, _CYCLE, 0.0)
    if cycle:
        pace = Pace(pace.rest, cycle)
    stale: float | None = None
    if (environment.text(_STALE) or "").lower() != "off":
        stale = _duration(environment, _STALE, 7.0 * DAY)
    day = int(_duration(environment, _DAY, DAY))
    if day != DAY:
        environment.warnings.append(
            f"KYPELLO_LIFECYCLE_DAY: a day in the rules of lifecycles has {day} seconds. This is"
            " for trying out rules, on data that may be lost."
        )
    return ScannerSettings(pace, stale, day)


def _duration(environment: Environment, name: str, default: float) -> float:
    text = environment.text(name)
    if not text:
        return default
    seconds = parse_duration(text)
    if seconds is None or seconds < 1:
        environment.mistakes.append(
            f"{name} is {text!r}, and has to be a duration of a second or more, such as 90s, 30m or"
            " 168h."
        )
        return default
    return seconds
