# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Texts with wildcards and variables.

``*`` stands for any text, ``?`` for one character.  ``${aws:username}`` stands for what that
condition key has, and ``${aws:username, 'guest'}`` for ``guest`` when it has nothing;
``${*}``, ``${?}`` and ``${$}`` stand for the character itself.

Matching is linear in the text for each piece between two stars, so that who writes a pattern
cannot make it dear.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from attrs import frozen

from kypello.policy.keys import may_be_variable, normal

#: Gives the values of a condition key; none when it is absent.
Lookup: TypeAlias = Callable[[str], Sequence[str]]

_SPECIAL = re.compile(r"\$\{([^{}]*)\}|[*?]")
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*,\s*'([^']*)'\s*")

#: How many bindings a pattern remembers; somebody's own policies need one.
_MOST_BOUND = 16


@frozen
class _Wild:
    """
    ``*`` or ``?``.
    """

    sign: str


@frozen
class _Variable:
    """
    Stands for the first value of a key.

    :ivar default: In place of a value; ``None`` for nothing.
    """

    name: str
    default: str | None


_STAR: Final = _Wild("*")
_ONE: Final = _Wild("?")
_Piece: TypeAlias = str | _Wild | _Variable


class _Segment:
    """
    What is between two stars: so many characters, some of which may be any.
    """

    __slots__ = ("_expression", "_literal", "length")

    def __init__(self, pieces: Sequence[str | _Wild]) -> None:
        self.length = sum(len(piece) if isinstance(piece, str) else 1 for piece in pieces)
        self._literal = "".join(piece for piece in pieces if isinstance(piece, str))
        self._expression = None
        if len(self._literal) < self.length:
            # A fixed number of characters: nothing here can go back and forth.
            self._expression = re.compile(
                "".join(re.escape(piece) if isinstance(piece, str) else "." for piece in pieces),
                re.DOTALL,
            )

    def at(self, text: str, start: int) -> bool:
        """
        Whether *text* goes on with it.
        """
        if self._expression is None:
            return text.startswith(self._literal, start)
        return self._expression.match(text, start) is not None

    def after(self, text: str, start: int, stop: int) -> int:
        """
        Where its first place within ``text[start:stop]`` ends; -1 when there is none.
        """
        if self._expression is None:
            found = text.find(self._literal, start, stop)
            return found if found < 0 else found + self.length
        match = self._expression.search(text, start, stop)
        return -1 if match is None else match.end()


class Glob:
    """
    A text with wildcards only.
    """

    __slots__ = ("_exact", "_first", "_last", "_middle", "_prefix", "_shortest")

    def __init__(self, pieces: Sequence[str | _Wild]) -> None:
        """
        Compile.
        """
        groups: list[list[str | _Wild]] = [[]]
        for piece in pieces:
            if piece is _STAR:
                groups.append([])
            else:
                groups[-1].append(piece)
        self._exact: str | None = None
        self._prefix: str | None = None
        first, *others = groups
        literal = all(isinstance(piece, str) for piece in first)
        text = "".join(piece for piece in first if isinstance(piece, str))
        if literal and not others:
            self._exact = text
        elif literal and not any(others):
            self._prefix = text
        self._first = _Segment(first)
        self._last = _Segment(others.pop()) if others else None
        self._middle = tuple(_Segment(group) for group in others if group)
        self._shortest = sum(
            segment.length for segment in (self._first, *self._middle, self._last) if segment
        )

    def matches(self, text: str) -> bool:
        """
        Whether it stands for the whole of *text*.
        """
        if self._prefix is not None:
            return text.startswith(self._prefix)
        if self._exact is not None:
            return text == self._exact
        if len(text) < self._shortest or not self._first.at(text, 0):
            return False
        if self._last is None:
            return len(text) == self._shortest
        place = self._first.length
        end = len(text) - self._last.length
        # The first place of each segment leaves most room for the next ones.
        for segment in self._middle:
            place = segment.after(text, place, end)
            if place < 0:
                return False
        return self._last.at(text, end)


class Template:
    """
    A text that may have wildcards and variables; equal when text and reading are.

    :ivar text: As it was written.
    :ivar prefix: What everything that it stands for begins with.
    :ivar part: The longest text that is a part of everything that it stands for.
    :ivar everything: It stands for every text.
    :ivar varies: It has variables.
    """

    __slots__ = (
        "_bound",
        "_folded",
        "_glob",
        "_pieces",
        "everything",
        "part",
        "prefix",
        "text",
        "varies",
    )

    def __init__(
        self, text: str, *, wild: bool = True, variables: bool = True, folded: bool = False
    ) -> None:
        """
        Read.

        :param wild: Whether ``*`` and ``?`` are wildcards.
        :param variables: Whether ``${...}`` is a variable.
        :param folded: Whether upper and lower case are the same.
        """
        self.text = text
        self._folded = folded
        self._pieces = tuple(_pieces(text, wild, variables))
        first = self._pieces[0] if self._pieces else ""
        self.prefix = first if isinstance(first, str) and not folded else ""
        literals = () if folded else (one for one in self._pieces if isinstance(one, str))
        self.part = max(literals, key=len, default="")
        self.varies = any(isinstance(piece, _Variable) for piece in self._pieces)
        self.everything = bool(self._pieces) and all(piece is _STAR for piece in self._pieces)
        self._bound: dict[tuple[str, ...], Glob] = {}
        self._glob = None if self.varies else self._fill(())

    @property
    def variables(self) -> frozenset[str]:
        """
        The keys without which it stands for nothing.
        """
        return frozenset(
            piece.name
            for piece in self._pieces
            if isinstance(piece, _Variable) and piece.default is None
        )

    @property
    def fixed(self) -> bool:
        """
        Whether it stands for one text only.
        """
        return all(isinstance(piece, str) for piece in self._pieces)

    def matches(self, text: str, lookup: Lookup) -> bool:
        """
        Whether it stands for the whole of *text*.

        With a variable that has neither value nor default it stands for nothing.
        """
        glob = self._glob
        if glob is None:
            glob = self._bind(lookup)
        return glob is not None and glob.matches(text.lower() if self._folded else text)

    def __eq__(self, other: object) -> bool:
        """
        Whether it stands for the same.
        """
        if not isinstance(other, Template):
            return NotImplemented
        return self._pieces == other._pieces and self._folded == other._folded

    def __hash__(self) -> int:
        """
        Goes with equality.
        """
        return hash((self._pieces, self._folded))

    def __repr__(self) -> str:
        """
        As it was written.
        """
        return f"Template({self.text!r})"

    def _bind(self, lookup: Lookup) -> Glob | None:
        values = []
        for piece in self._pieces:
            if isinstance(piece, _Variable):
                given = lookup(piece.name)
                value = given[0] if given else piece.default
                if value is None:
                    return None
                values.append(value)
        key = tuple(values)
        glob = self._bound.get(key)
        if glob is None:
            if len(self._bound) >= _MOST_BOUND:
                self._bound.clear()
            glob = self._bound[key] = self._fill(values)
        return glob

    def _fill(self, values: Sequence[str]) -> Glob:
        # A value is text, whatever characters it has: a user called * is no wildcard.
        rest = iter(values)
        pieces = [next(rest) if isinstance(piece, _Variable) else piece for piece in self._pieces]
        if self._folded:
            pieces = [piece.lower() if isinstance(piece, str) else piece for piece in pieces]
        return Glob(pieces)


def _pieces(text: str, wild: bool, variables: bool) -> Sequence[_Piece]:
    pieces: list[_Piece] = []
    literal: list[str] = []

    def flush() -> None:
        joined = "".join(literal)
        literal.clear()
        if joined:
            pieces.append(joined)

    place = 0
    for match in _SPECIAL.finditer(text):
        literal.append(text[place : match.start()])
        place = match.end()
        piece = _piece(match.group(), match.group(1), wild, variables)
        if isinstance(piece, str):
            literal.append(piece)
            continue
        flush()
        pieces.append(piece)
    literal.append(text[place:])
    flush()
    return pieces


def _piece(found: str, inner: str | None, wild: bool, variables: bool) -> _Piece:
    if inner is None:
        if not wild:
            return found
        return _STAR if found == "*" else _ONE
    if not variables:
        return found
    if inner in ("*", "?", "$"):
        return inner
    match = _DEFAULT.fullmatch(inner)
    name, default = (match.group(1), match.group(2)) if match else (inner.strip(), None)
    if not may_be_variable(normal(name)):
        return found
    return _Variable(normal(name), default)
