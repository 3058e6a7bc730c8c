# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What an examination finds: each thing that was checked, and what to change.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from attrs import define, field, frozen


class State(StrEnum):
    """
    How something is.
    """

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"


@frozen
class Finding:
    """
    What one check found.

    :ivar subject: What was looked at: the URL of a key server, a directory, or the settings.
    :ivar check: What of it.
    :ivar message: What was found, for people.
    :ivar advice: What to change; empty when nothing need be.
    """

    state: State
    subject: str
    check: str
    message: str
    advice: str = ""


#: Takes each finding as it is made.
Tell: TypeAlias = Callable[[Finding], object]


@define(eq=False)
class Chart:
    """
    Writes down findings about one subject.
    """

    _tell: Tell
    subject: str
    states: list[State] = field(factory=list)

    def ok(self, check: str, message: str) -> None:
        """
        All is well with that.
        """
        self._note(State.OK, check, message)

    def skipped(self, check: str, message: str) -> None:
        """
        It was not looked at.
        """
        self._note(State.SKIPPED, check, message)

    def warning(self, check: str, message: str, advice: str) -> None:
        """
        It works, but something should be changed.
        """
        self._note(State.WARNING, check, message, advice)

    def failed(self, check: str, message: str, advice: str) -> None:
        """
        It does not work.
        """
        self._note(State.FAILED, check, message, advice)

    def _note(self, state: State, check: str, message: str, advice: str = "") -> None:
        self.states.append(state)
        self._tell(Finding(state, self.subject, check, message, advice))
