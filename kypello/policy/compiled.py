# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Policies made ready for deciding.

Statements are found by their action and by what their resources begin with, so that a decision
looks at those only that can match, however many there are.  What the resource alone decides is
remembered for some of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TypeAlias

from attrs import frozen

from kypello.policy.actions import EVERY_ACTION, OF_LISTING, canonical, service_of
from kypello.policy.document import Policy
from kypello.policy.publicaccess import is_public
from kypello.policy.statement import Statement
from kypello.policy.wildcards import Lookup, Template

#: How many actions on resources each :class:`Policies` remembers.
_MOST_REMEMBERED = 256


class Verdict(Enum):
    """
    What policies say: nothing, unless they deny or allow.
    """

    NONE = "none"
    ALLOW = "allow"
    DENY = "deny"


@frozen
class Whom:
    """
    Who asks, for principals.

    :ivar user: ``None`` when anonymous.
    :ivar root: Whether it is the root user, or acts for it.
    """

    user: str | None = None
    root: bool = False


@frozen(eq=False)
class _Entry:
    """
    A statement under one action, and resources of its that are to match.

    :ivar templates: One of which has to match; none when anything does.
    :ivar excluding: None of them may match instead.
    :ivar slash: Whether a bucket matches like a folder, too.
    :ivar varies: Whether it takes more than the resource to know whether it matches.
    :ivar settled: Whether the resource decides whether the statement counts.
    :ivar part: A text that every resource has which fits; looked for first, as that is cheap.
    :ivar needed: Keys without which a statement that allows does not count.
    """

    statement: Statement
    templates: tuple[Template, ...]
    excluding: bool
    slash: bool
    varies: bool
    settled: bool
    part: str
    needed: frozenset[str]

    def fits(self, resource: str, lookup: Lookup) -> bool:
        """
        Whether the statement is about a resource.
        """
        templates = self.templates
        if not templates:
            return True
        matches = any(template.matches(resource, lookup) for template in templates)
        if not matches and self.slash:
            folder = resource + "/"
            matches = any(template.matches(folder, lookup) for template in templates)
        return matches != self.excluding


@frozen(eq=False)
class _Index:
    """
    The entries of one action, by what the resources begin with.

    :ivar lengths: Of the beginnings, ascending.
    """

    lengths: tuple[int, ...]
    entries: Mapping[str, tuple[_Entry, ...]]


#: What the resource decides, and the entries for which more has to be known.
_Found: TypeAlias = tuple[Verdict, Sequence[_Entry]]

_NOTHING: _Found = (Verdict.NONE, ())


class Policies:
    """
    Several documents, compiled for deciding fast.  Immutable; to be kept while they hold.

    :ivar public: Whether one of them, of a bucket, lets the public in.
    """

    __slots__ = ("_allowed", "_found", "_indexes", "_statements", "public")

    def __init__(self, policies: Iterable[Policy]) -> None:
        """
        Compile.
        """
        policies = tuple(policies)
        statements = (statement for policy in policies for statement in policy.statements)
        self._statements = tuple(dict.fromkeys(statements))
        self._allowed = frozenset[str]().union(
            *(one.actions for one in self._statements if one.allows and one.service != "s3")
        )
        self._indexes: dict[str, _Index] = {}
        self._found: dict[tuple[str, str], _Found] = {}
        self.public = any(is_public(policy) for policy in policies)

    def verdict(self, action: str, resource: str, lookup: Lookup, whom: Whom = Whom()) -> Verdict:
        """
        What they say about an action on a resource.

        :param lookup: Gives the values of condition keys.
        :param whom: For policies of buckets.
        """
        verdict, rest = self._find(canonical(action), resource)
        for entry in rest:
            if verdict is Verdict.DENY:
                break
            statement = entry.statement
            if (
                (statement.allows and verdict is Verdict.ALLOW)
                or (entry.varies and not entry.fits(resource, lookup))
                or not _counts(entry, lookup, whom)
            ):
                continue
            verdict = Verdict.ALLOW if statement.allows else Verdict.DENY
        return verdict

    def asks_tags(self, action: str, resource: str) -> bool:
        """
        Whether a verdict depends on the tags of the object.
        """
        _verdict, rest = self._find(canonical(action), resource)
        return any(
            condition.asks_tags for entry in rest for condition in entry.statement.conditions
        )

    def mentions(self, actions: frozenset[str]) -> bool:
        """
        Whether statements that are made for their service, not S3, allow one of these actions.
        """
        return not self._allowed.isdisjoint(actions)

    def _find(self, action: str, resource: str) -> _Found:
        key = (action, resource)
        found = self._found.get(key)
        if found is None:
            if action not in EVERY_ACTION:
                return _NOTHING
            found = self._search(action, resource)
            if len(self._found) >= _MOST_REMEMBERED:
                del self._found[next(iter(self._found))]
            self._found[key] = found
        return found

    def _search(self, action: str, resource: str) -> _Found:
        index = self._indexes.get(action)
        if index is None:
            index = self._indexes[action] = _compile(action, self._statements)
        # What the folder of a bucket begins with, the bucket begins with, too.
        path = resource + "/" if action in OF_LISTING else resource
        verdict = Verdict.NONE
        rest = []
        for length in index.lengths:
            if length > len(path):
                break
            for entry in index.entries.get(path[:length], ()):
                if entry.part not in path:
                    continue
                if entry.varies:
                    rest.append(entry)
                elif entry.fits(resource, _no_values):
                    if not entry.settled:
                        rest.append(entry)
                    elif entry.statement.allows:
                        verdict = Verdict.ALLOW
                    else:
                        return Verdict.DENY, ()
        return verdict, tuple(rest)


def _counts(entry: _Entry, lookup: Lookup, whom: Whom) -> bool:
    statement = entry.statement
    principals = statement.principals
    if principals is not None and not principals.include(whom.user, whom.root, statement.allows):
        return False
    for key in entry.needed:
        if not lookup(key):
            return False
    # Plain loops, as this is where the time goes when many statements have conditions.
    for condition in statement.conditions:  # noqa: SIM110
        if not condition.holds(lookup):
            return False
    return True


def _compile(action: str, statements: Iterable[Statement]) -> _Index:
    entries: dict[str, list[_Entry]] = {}
    service = service_of(action)
    for statement in statements:
        if action not in statement.actions:
            continue
        for prefix, templates, excluding in _places(statement, service):
            varies = any(template.varies for template in templates)
            principals = statement.principals
            entry = _Entry(
                statement,
                templates,
                excluding,
                action in OF_LISTING and principals is None,
                varies,
                not varies
                and not statement.conditions
                and (principals is None or (principals.everyone and principals.public)),
                "" if excluding or not templates else templates[0].part,
                statement.needed if statement.allows else frozenset(),
            )
            entries.setdefault(prefix, []).append(entry)
    return _Index(
        tuple(sorted({len(prefix) for prefix in entries})),
        {prefix: tuple(under) for prefix, under in entries.items()},
    )


def _places(statement: Statement, service: str) -> Sequence[tuple[str, tuple[Template, ...], bool]]:
    """
    The beginnings under which a statement is to be found, with what has to match there.
    """
    resources = statement.resources
    if not resources:
        return [("", (), False)]
    if service != statement.service:
        # Resources of one service are none of another, but for the pattern of everything.
        everything = any(resource.template.everything for resource in resources)
        return [("", (), False)] if everything != statement.excluding else []
    templates = tuple(resource.template for resource in resources)
    if statement.excluding:
        return [("", templates, True)]
    return [(template.prefix, (template,), False) for template in templates]


def _no_values(_name: str) -> Sequence[str]:
    return ()
