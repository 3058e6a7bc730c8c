# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
YAML with line numbers, read as strings and nothing else.

YAML's own types would turn ``off`` into a truth value and digits of an identity into a number.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

import yaml
from attrs import define, field, frozen

T = TypeVar("T")

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ms|us|µs|ns|h|m|s)")
_DURATION = re.compile(rf"\+?(?:0|(?:{_PIECE.pattern})+)")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NOTHING = ("", "~", "null", "Null", "NULL")


@define
class Report:
    """
    What is wrong with a file.

    :ivar mistakes: What must be changed, each with file and line.
    :ivar warnings: What has no effect.
    """

    file: str
    mistakes: list[str] = field(factory=list)
    warnings: list[str] = field(factory=list)

    def mistake(self, line: int, text: str) -> None:
        """
        Report something that must be changed.
        """
        self.mistakes.append(f"{self.file}:{line}: {text}")

    def warn(self, line: int, text: str) -> None:
        """
        Report something that has no effect.
        """
        self.warnings.append(f"{self.file}:{line}: {text}")


@frozen
class Value:
    """
    A node of the document.

    :ivar path: What leads to it, with dots; empty for the document.
    :ivar line: Counted from 1.
    :ivar _node: ``None`` for something that is not there.
    :ivar _environment: What ``${NAME}`` stands for.
    """

    path: str
    line: int
    _node: yaml.Node | None = field(repr=False)
    _report: Report = field(repr=False)
    _environment: Mapping[str, str] = field(repr=False)

    @property
    def given(self) -> bool:
        """
        Whether it is there and says something.
        """
        node = self._node
        if isinstance(node, yaml.ScalarNode):
            return bool(node.style) or node.value not in _NOTHING
        return node is not None

    @property
    def is_mapping(self) -> bool:
        """
        Whether it holds names with values.
        """
        return isinstance(self._node, yaml.MappingNode)

    def mistake(self, text: str) -> None:
        """
        Report that it is wrong.
        """
        self._report.mistake(self.line, f"{self.path}: {text}" if self.path else text)

    def warn(self, text: str) -> None:
        """
        Report that it has no effect.
        """
        self._report.warn(self.line, f"{self.path}: {text}")

    def text(self, default: str = "", expand: bool = True) -> str:
        """
        A string.

        :param default: For one that is not given.
        :param expand: Whether ``${NAME}`` stands for a variable.
        """
        if not self.given:
            return default
        if not isinstance(self._node, yaml.ScalarNode):
            self.mistake("must be one value")
            return default
        text: str = self._node.value
        variable = _VARIABLE.fullmatch(text) if expand else None
        if variable is None:
            return text
        name = variable.group(1)
        if name not in self._environment:
            self.mistake(f"the environment variable {name} is not set")
            return text
        return self._environment[name]

    def required(self, what: str) -> str:
        """
        A string that must be given; an empty one, and a mistake, when it is not.

        :param what: What it has to be, for who wrote the file.
        """
        text = self.text()
        if not text:
            self.mistake(f"is required: {what}")
        return text

    def seconds(self, default: float = 0.0) -> float:
        """
        The seconds of a duration.

        :param default: For one that is not given.
        """
        if not self.given:
            return default
        seconds = parse_duration(self.text())
        if seconds is None:
            self.mistake("must be a duration such as 300ms, 15s or 1h30m")
            return default
        return seconds

    def variable(self, name: str) -> str | None:
        """
        A variable that says more of this value; ``None`` for one that is not set.
        """
        return self._environment.get(name)

    def items(self) -> list["Value"]:
        """
        The members of a list; none when it is not given.
        """
        if not self.given:
            return []
        if not isinstance(self._node, yaml.SequenceNode):
            self.mistake("must be a list")
            return []
        return [
            self._inner(f"{self.path}[{number}]", node)
            for number, node in enumerate(self._node.value)
        ]

    def members(self) -> dict[str, "Value"]:
        """
        The members of a mapping; none when it is not given.
        """
        if not self.given:
            return {}
        if not isinstance(self._node, yaml.MappingNode):
            self.mistake("must hold names with values")
            return {}
        found: dict[str, Value] = {}
        for name, node in self._named(self._node):
            if name in found:
                found[name].mistake("is given twice")
            found[name] = self._inner(f"{self.path}.{name}" if self.path else name, node)
        return found

    def scalars(self) -> Iterator[tuple[str, str]]:
        """
        All single values in it, each with what leads to it.  Nothing is reported.
        """
        if isinstance(self._node, yaml.ScalarNode):
            yield self.path, self._node.value
        elif isinstance(self._node, yaml.MappingNode):
            for name, node in self._named(self._node):
                yield from self._inner(f"{self.path}.{name}", node).scalars()
        elif isinstance(self._node, yaml.SequenceNode):
            for node in self._node.value:
                yield from self._inner(self.path, node).scalars()

    def exactly(self, *known: str) -> "Section":
        """
        A mapping whose names are known; others are mistakes.
        """
        members = self.members()
        for name, value in members.items():
            if name not in known:
                value.mistake(f"is unknown; known here: {', '.join(known)}")
        return Section(self, members)

    def missing(self, name: str) -> "Value":
        """
        A member that is not there.
        """
        path = f"{self.path}.{name}" if self.path else name
        return Value(path, self.line, None, self._report, self._environment)

    def _named(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                yield name.value, value
            else:
                self.mistake("a name must be one word")

    def _inner(self, path: str, node: yaml.Node) -> "Value":
        line = node.start_mark.line + 1
        return Value(path, line, node, self._report, self._environment)


@frozen
class Section:
    """
    A mapping whose names are known.
    """

    _value: Value
    _members: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        """
        A member, given or not.
        """
        return self._members.get(name) or self._value.missing(name)

    def __contains__(self, name: str) -> bool:
        """
        Whether there is such a member, be it empty.
        """
        return name in self._members


def parse_duration(text: str) -> float | None:
    """
    Seconds of a duration as Go writes it, such as ``1h30m``; ``None`` for another text.
    """
    if _DURATION.fullmatch(text) is None:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))


def read(text: str, report: Report, environment: Mapping[str, str]) -> Value:
    """
    Read a document; what is no YAML is a mistake and reads as an empty one.
    """
    node = None
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        report.mistake(1 if mark is None else mark.line + 1, f"no YAML: {error.problem}")
    except yaml.YAMLError:
        report.mistake(1, "no YAML: it holds characters that may not be in it")
    return Value("", 1, node, report, environment)
