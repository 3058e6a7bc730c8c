# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What ``kypello encrypt verify`` prints, and what it keeps to go on later.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import asdict, define, frozen

from kypello.errors import ConfigurationError
from kypello.objects.judging import Finding, Position, Verified, Wanted
from kypello.store.directory import write_private
from kypello.store.findings import Problem
from kypello.storereport import Report, amount, describe


@define(eq=False)
class VerifyReport(Report):
    """
    What is printed: findings as they come, and a summary.
    """

    def found(self, finding: Finding) -> None:
        """
        Print a finding.
        """
        self.clear()
        if self._json:
            told = asdict(finding, value_serializer=_plainly)
            self._print(json.dumps({"finding": {key: text for key, text in told.items() if text}}))
            return
        where = Problem(
            finding.what,
            finding.bucket,
            finding.key,
            finding.version,
            finding.upload,
            finding.part,
        )
        self._print(f"{finding.kind.value}: {describe(where)}")

    def follow_verifying(self, figures: Verified, per_second: float) -> None:
        """
        Show on a terminal how far it has come.

        :param per_second: Bytes of content.
        """
        self._show(
            f"{figures.versions:,} versions, {figures.uploads:,} uploads, {amount(figures.bytes)},"
            f" {amount(per_second)}/s, {figures.findings:,} findings"
        )

    def wait(self, why: str, pause: float) -> None:
        """
        Tell that it waits for a key server.

        :param pause: Seconds until it tries again.
        """
        self.clear()
        print(f"{why}; trying again in {pause:g} s", file=self._err, flush=True)

    def conclude_verifying(self, figures: Verified) -> None:
        """
        Print the summary.
        """
        self.clear()
        self.sound = not figures.findings
        if self._json:
            self._print(json.dumps({"summary": {**asdict(figures), "sound": self.sound}}))
            return
        for name, number, text in _summary(figures):
            self._print(f"{name:<14}{number:,}{text}")
        self._print("All is sound." if self.sound else "Something is wrong: see above.")


@frozen
class Resumption:
    """
    A file that tells how far an earlier run has come.

    :ivar _target: What is verified, so that no file of something else is used.
    """

    _path: Path
    _target: str

    def load(self) -> tuple[Position, Verified]:
        """
        Where to go on, and what was seen before that; blocking.

        :raises ConfigurationError: The file is none of these, or cannot be read.
        """
        try:
            told = json.loads(self._path.read_bytes())
            if told["target"] != self._target:
                what = f"{self._path} tells of {told['target']}, not of {self._target}."
                raise ConfigurationError((what,))
            return Position(**told["position"]), Verified(**told["figures"])
        except FileNotFoundError:
            return Position(), Verified()
        except OSError as error:
            raise ConfigurationError((f"{self._path}: {error.strerror}.",)) from error
        except (ValueError, KeyError, TypeError) as error:
            what = f"{self._path} does not tell how far a run has come."
            raise ConfigurationError((what,)) from error

    def save(self, position: Position, figures: Verified) -> None:
        """
        Tell how far this run has come; blocking.

        :raises ConfigurationError: The file cannot be written.
        """
        told = {"target": self._target, "position": asdict(position), "figures": asdict(figures)}
        try:
            write_private(self._path, json.dumps(told).encode(), os.urandom)
        except OSError as error:
            raise ConfigurationError((f"{self._path}: {error.strerror}.",)) from error

    def remove(self) -> None:
        """
        There is nothing left to do; blocking.
        """
        self._path.unlink(missing_ok=True)


def target_of(directory: Path, wanted: Wanted) -> str:
    """
    What is verified, in a text.
    """
    return f"{directory.resolve()} {wanted.bucket}/{wanted.prefix}"


def _plainly(_instance: Any, _field: Any, value: Any) -> Any:
    return getattr(value, "value", value)


def _summary(figures: Verified) -> Iterator[tuple[str, int, str]]:
    yield "Buckets", figures.buckets, ""
    yield "Versions", figures.versions, f" ({amount(figures.bytes)} were read)"
    yield "Opened", figures.opened, " are encrypted, and sound to their end"
    unverified = " cannot be verified without their client's key; their packages are in place"
    yield "Clients' keys", figures.structure, unverified
    yield "In clear", figures.plain, ""
    yield "Uploads", figures.uploads, " are unfinished"
    yield "Parts", figures.parts, " of these are encrypted, and sound to their end"
    if figures.parts_structure:
        yield "", figures.parts_structure, " of these" + unverified
    if figures.vanished:
        yield "Vanished", figures.vanished, " were removed or completed meanwhile"
    yield "Damaged", figures.damaged, ""
    yield "Missing key", figures.missing_keys, ""
    yield "Wrong key", figures.wrong_keys, ""
    if figures.forbidden_keys:
        yield "Key forbidden", figures.forbidden_keys, " that the key server does not let us open"
    yield "Plaintext", figures.plaintext, " in clear where all is to be encrypted"
    yield "Refused", figures.refused, " encrypted in a way that their buckets refuse"
