# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.lifecycle.fates``: known cases, and whatever rules and versions there may be
against a reference that looks at all versions again and again.
"""

from collections.abc import Sequence

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kypello.lifecycle.fates import Action, Calendar, Fates, Removal, abortion_of, expiry_of
from kypello.lifecycle.rules import Filter, Lifecycle, Rule
from kypello.model import GOVERNANCE, ListedVersion, Lock, ObjectInfo, ObjectMetadata
from tests.cases import SyncCase

_SECOND = 1_000_000_000
_DAY = 86400 * _SECOND

#: A Friday, half past ten in the morning.
_THEN = 16_000 * _DAY + 10 * 3600 * _SECOND + 1800 * _SECOND


def version(
    name: str,
    modified: int,
    *,
    latest: bool = False,
    marker: bool = False,
    key: str = "k",
    size: int = 10,
    lock: Lock | None = None,
    **tags: str,
) -> ListedVersion:
    """
    A version as a listing tells it.
    """
    metadata = ObjectMetadata("e", tags=tags)
    if lock is not None:
        metadata = evolve(metadata, lock=lock)
    info = ObjectInfo("b", key, name, 0 if marker else size, modified, metadata)
    return ListedVersion(info, latest, marker)


def decide(
    rules: Sequence[Rule], versions: Sequence[ListedVersion], now: int
) -> list[tuple[str, Action]]:
    """
    What goes, sorted by the id of the version.
    """
    return sorted(
        (
            (removal.version.info.version_id, removal.action)
            for removal in told(rules, versions, now)
        ),
        key=lambda pair: pair[0],
    )


def told(rules: Sequence[Rule], versions: Sequence[ListedVersion], now: int) -> list[Removal]:
    """
    What goes, in the order in which it goes.
    """
    fates = Fates(Calendar())
    found = [removal for each in versions for removal in fates.see(rules, each, now)]
    return [*found, *fates.end()]


def rule(**said: object) -> Rule:
    """
    A rule about everything.
    """
    fields: dict[str, object] = {"id": "r", "enabled": True, **said}
    made = Rule(**fields)  # type: ignore[arg-type]  # each test names fields of the rule
    return made


class KnownTests(SyncCase):
    """
    Cases whose outcome is written down.
    """

    def test_rounding(self) -> None:
        """
        Days end with the midnight that follows: on 15 January at 10:30, three days end on the 19th.
        """
        self.assertEqual(Calendar().midnight_after(_THEN, 3), 16_004 * _DAY)
        self.assertEqual(Calendar().midnight_after(16_000 * _DAY, 3), 16_004 * _DAY)
        self.assertEqual(Calendar(10).midnight_after(15 * _SECOND, 1), 30 * _SECOND)

    def test_current(self) -> None:
        """
        A current version expires with its day, and not a moment earlier.
        """
        current = [version("a", _THEN, latest=True)]
        rules = [rule(days=3)]
        self.assertEqual(decide(rules, current, 16_004 * _DAY - 1), [])
        self.assertEqual(decide(rules, current, 16_004 * _DAY), [("a", Action.EXPIRE)])
        rules = [rule(date=16_010 * 86400)]
        self.assertEqual(decide(rules, current, 16_010 * _DAY - 1), [])
        self.assertEqual(decide(rules, current, 16_010 * _DAY), [("a", Action.EXPIRE)])

    def test_marker_on_top(self) -> None:
        """
        A delete marker does not expire above other versions; as the only version it does.
        """
        above = version("b", _THEN, latest=True, marker=True)
        below = version("a", _THEN - _DAY)
        now = _THEN + 10 * _DAY
        self.assertEqual(decide([rule(days=1)], [above, below], now), [])
        self.assertEqual(decide([rule(days=1)], [above], now), [("b", Action.REMOVE)])
        self.assertEqual(decide([rule(days=1)], [above], _THEN + _DAY), [])
        self.assertEqual(decide([rule(marker=True)], [above], _THEN), [("b", Action.REMOVE)])
        self.assertEqual(decide([rule(marker=False)], [above], now), [])
        self.assertEqual(decide([rule(marker=True)], [above, below], now), [])

    def test_noncurrent(self) -> None:
        """
        A version goes so long after it was replaced, also a delete marker, and so many of those
        that have content stay.
        """
        stack = [
            version("e", _THEN, latest=True),
            version("d", _THEN - _DAY),
            version("c", _THEN - 2 * _DAY, marker=True),
            version("b", _THEN - 3 * _DAY),
            version("a", _THEN - 4 * _DAY),
        ]
        now = 16_001 * _DAY
        gone = decide([rule(noncurrent_days=2)], stack, now - 1)
        self.assertEqual([name for name, _ in gone], ["a"])
        gone = decide([rule(noncurrent_days=2)], stack, now)
        self.assertEqual([name for name, _ in gone], ["a", "b"])
        gone = decide([rule(noncurrent_days=2, newer_noncurrent=2)], stack, now)
        self.assertEqual([name for name, _ in gone], ["a"])
        gone = decide([rule(newer_noncurrent=1)], stack, _THEN)
        self.assertEqual([name for name, _ in gone], ["a", "b", "c"])

    def test_all_versions(self) -> None:
        """
        With the newest version go all others, and before it.
        """
        stack = [version("c", _THEN, latest=True), version("b", _THEN), version("a", _THEN)]
        rules = [rule(days=1, all_versions=True)]
        gone = told(rules, stack, _THEN + 3 * _DAY)
        self.assertEqual([each.version.info.version_id for each in gone], ["b", "a", "c"])
        self.assertEqual([each.last for each in gone], [False, False, True])
        self.assertEqual(decide(rules, stack, _THEN), [])
        marked = [version("c", _THEN, latest=True, marker=True), version("a", _THEN)]
        self.assertEqual(decide(rules, marked, _THEN + 3 * _DAY), [])
        rules = [rule(marker_days=1)]
        self.assertEqual(len(decide(rules, marked, _THEN + 3 * _DAY)), 2)
        self.assertEqual(decide(rules, stack, _THEN + 3 * _DAY), [])

    def test_locked(self) -> None:
        """
        What is locked stays, and above it what hides it.
        """
        for lock in (Lock(hold=True), Lock(GOVERNANCE, _THEN + 100 * _DAY)):
            stack = [
                version("c", _THEN, latest=True, marker=True),
                version("b", _THEN, lock=lock),
                version("a", _THEN),
            ]
            now = _THEN + 9 * _DAY
            gone = decide([rule(noncurrent_days=1)], stack, now)
            self.assertEqual(gone, [("a", Action.REMOVE)])
            self.assertEqual(decide([rule(marker_days=1)], stack, now), [("a", Action.REMOVE)])
            current = [version("c", _THEN, latest=True), *stack[1:]]
            rules = [rule(days=1, all_versions=True)]
            self.assertEqual(
                decide(rules, current, now), [("a", Action.REMOVE), ("c", Action.EXPIRE)]
            )
            only = [version("a", _THEN, latest=True, lock=lock)]
            self.assertEqual(decide([rule(days=1)], only, now), [("a", Action.EXPIRE)])
        over = Lock(GOVERNANCE, _THEN)
        stack = [version("b", _THEN, latest=True), version("a", _THEN, lock=over)]
        gone = decide([rule(noncurrent_days=1)], stack, _THEN + 9 * _DAY)
        self.assertEqual(gone, [("a", Action.REMOVE)])

    def test_told_again(self) -> None:
        """
        A key that is told again from the beginning is decided about anew.
        """
        stack = [version("c", _THEN, latest=True), version("b", _THEN), version("a", _THEN)]
        rules, now = [rule(noncurrent_days=1)], _THEN + 9 * _DAY
        names = [each.version.info.version_id for each in told(rules, [*stack, *stack[:2]], now)]
        self.assertEqual(names, ["b", "a", "b"])
        marked = [version("c", _THEN, latest=True, marker=True), *stack[1:]]
        gone = told([rule(marker_days=1)], [*marked[:2], *marked], now)
        self.assertEqual([each.version.info.version_id for each in gone], ["b", "b", "a", "c"])

    def test_without_the_newest(self) -> None:
        """
        Nothing goes of a key whose newest version was not told.
        """
        below = [version("b", _THEN), version("a", _THEN)]
        rules = [rule(days=1, noncurrent_days=1)]
        self.assertEqual(told(rules, below, _THEN + 9 * _DAY), [])

    def test_other_rules(self) -> None:
        """
        When the rules change while a key is told, nothing more of it goes.
        """
        stack = [version("c", _THEN, latest=True), version("b", _THEN), version("a", _THEN)]
        now, fates = _THEN + 9 * _DAY, Fates(Calendar())
        gone = [
            removal.version.info.version_id
            for each, rules in zip(stack, ([rule(noncurrent_days=1)],) * 2 + ([],), strict=True)
            for removal in fates.see(rules, each, now)
        ]
        self.assertEqual([*gone, *fates.end()], ["b"])

    def test_filters(self) -> None:
        """
        Prefix, tags and sizes narrow a rule; sizes themselves do not match.
        """
        now = _THEN + 9 * _DAY
        for wanted, matching in (
            (Filter(), True),
            (Filter("k"), True),
            (Filter("l"), False),
            (Filter(tags=(("a", "1"),)), True),
            (Filter(tags=(("a", "1"), ("b", "2"))), False),
            (Filter(tags=(("a", "2"),)), False),
            (Filter(greater=9), True),
            (Filter(greater=10), False),
            (Filter(less=11), True),
            (Filter(less=10), False),
        ):
            found = decide(
                [rule(days=1, filter=wanted)], [version("a", _THEN, latest=True, a="1")], now
            )
            self.assertEqual(bool(found), matching, wanted)
        self.assertEqual(decide([rule(days=1, prefix="l")], [version("a", _THEN)], now), [])
        marker = version("a", _THEN, latest=True, marker=True)
        self.assertEqual(decide([rule(days=1, filter=Filter(less=5))], [marker], now), [])

    def test_most_eager(self) -> None:
        """
        Of several rules the first one counts that is reached.
        """
        rules = [rule(id="slow", days=9), rule(id="quick", days=2), rule(id="dated", date=17e3)]
        current = version("a", _THEN, latest=True)
        due = expiry_of(rules[:2], Calendar(), current)
        assert due is not None
        self.assertEqual((due.rule, due.since), ("quick", 16_003 * _DAY))
        self.assertIsNone(expiry_of([rule(noncurrent_days=1)], Calendar(), current))

    def test_uploads(self) -> None:
        """
        Uploads are aborted by the days since they began, and their key.
        """
        rules = [rule(id="a", abort_days=3, prefix="k"), rule(id="b", abort_days=2, prefix="l")]
        due = abortion_of(rules, Calendar(), "key", _THEN)
        assert due is not None
        self.assertEqual((due.rule, due.since), ("a", 16_004 * _DAY))
        self.assertIsNone(abortion_of(rules, Calendar(), "m", _THEN))

    def test_kept(self) -> None:
        """
        Rules come back from what is kept, and those that count without the others.
        """
        rules = (rule(id="a", days=1, filter=Filter("p", combined=True)), rule(enabled=False))
        kept = Lifecycle.from_bytes(Lifecycle(rules, 5, "m").to_bytes())
        self.assertEqual(kept, Lifecycle(rules, 5, "m"))
        self.assertEqual(kept.enabled, rules[:1])


_SMALL = st.integers(1, 4)

#: When the newest of these versions may have been stored.
_LAST = _THEN + 6 * _DAY


@st.composite
def some_rules(draw: st.DrawFn) -> list[Rule]:
    """
    A few rules that may have to do with each other.
    """
    rules = []
    for number in range(draw(st.integers(1, 3))):
        narrowing = draw(st.sampled_from([None, Filter(), Filter("k"), Filter("kk"),
                                          Filter(tags=(("t", "1"),)), Filter(greater=10),
                                          Filter(less=10)]))  # fmt: skip
        said: dict[str, object] = {}
        if draw(st.booleans()):
            said["days"] = draw(_SMALL)
            said["all_versions"] = draw(st.sampled_from([None, True]))
        elif draw(st.booleans()):
            said["date"] = (16_000 + draw(_SMALL)) * 86400
        elif draw(st.booleans()):
            said["marker"] = True
        if draw(st.booleans()):
            said["noncurrent_days"] = draw(_SMALL)
        if draw(st.booleans()):
            said["newer_noncurrent"] = draw(_SMALL)
        if draw(st.integers(0, 3)) == 0:
            said["marker_days"] = draw(_SMALL)
        rules.append(rule(id=f"r{number}", filter=narrowing, **said))
    return rules


@st.composite
def some_versions(draw: st.DrawFn) -> list[ListedVersion]:
    """
    All versions of some keys, in the order of a listing.
    """
    found = []
    for key in sorted(draw(st.sets(st.sampled_from(["j", "k", "kk"])))):
        moment = _THEN + draw(st.integers(0, 6)) * _DAY
        for place in range(draw(st.integers(1, 6))):
            lock = draw(st.sampled_from([None, None, Lock(hold=True), Lock(GOVERNANCE, moment)]))
            marker = draw(st.booleans())
            tags = {"t": draw(st.sampled_from("12"))} if draw(st.booleans()) else {}
            found.append(
                version(
                    f"{key}{place}",
                    moment,
                    latest=place == 0,
                    marker=marker,
                    key=key,
                    size=draw(st.sampled_from([5, 10, 15])),
                    lock=None if marker else lock,
                    **({} if marker else tags),
                )
            )
            moment -= draw(st.integers(1, 3 * _DAY))
    return found


def reference(
    rules: list[Rule], versions: list[ListedVersion], now: int
) -> set[tuple[str, Action]]:
    """
    The same decision, slowly: each version is looked at with all others of its key at hand.
    """
    gone: set[tuple[str, Action]] = set()
    for key in {each.info.key for each in versions}:
        stack = [each for each in versions if each.info.key == key]
        top, below = stack[0], stack[1:]

        def about(each: Rule, one: ListedVersion, key: str = key) -> bool:
            wanted = each.filter or Filter()
            if not key.startswith(wanted.prefix or each.prefix or ""):
                return False
            if one.marker:
                return not wanted.tags and wanted.greater is None and wanted.less is None
            info = one.info
            return (
                set(wanted.tags) <= set(info.metadata.tags.items())
                and (wanted.greater is None or info.size > wanted.greater)
                and (wanted.less is None or info.size < wanted.less)
            )

        def passed(moment: int, days: int) -> bool:
            return now // _DAY > (moment + days * _DAY) // _DAY

        def expired(each: Rule, one: ListedVersion) -> bool:
            if each.days is not None:
                return passed(one.info.modified, each.days)
            return each.date is not None and now >= each.date * _SECOND

        def locked(one: ListedVersion) -> bool:
            lock = one.info.metadata.lock
            return bool(lock.hold) or now < lock.until

        fitting = [each for each in rules if about(each, top)]
        if top.marker:
            everything = any(
                each.marker_days is not None and passed(top.info.modified, each.marker_days)
                for each in fitting
            )
        else:
            everything = any(each.all_versions and expired(each, top) for each in fitting)
        for place, one in enumerate(below):
            newer = sum(not other.marker for other in below[:place])
            over = everything or any(
                (each.noncurrent_days is not None or each.newer_noncurrent is not None)
                and newer >= (each.newer_noncurrent or 0)
                and (
                    each.noncurrent_days is None
                    or passed(stack[place].info.modified, each.noncurrent_days)
                )
                and about(each, one)
                for each in rules
            )
            if over and not locked(one):
                gone.add((one.info.version_id, Action.REMOVE))
        alone = not any(locked(one) for one in stack)
        if everything and alone:
            gone.add((top.info.version_id, Action.REMOVE))
        elif not top.marker and (everything or any(expired(each, top) for each in fitting)):
            gone.add((top.info.version_id, Action.EXPIRE))
        elif (
            top.marker
            and not below
            and not everything
            and any(each.marker or expired(each, top) for each in fitting)
        ):
            gone.add((top.info.version_id, Action.REMOVE))
    return gone


class AnyTests(SyncCase):
    """
    Whatever rules and versions there are.
    """

    @given(some_rules(), some_versions(), st.integers(0, 6 * 24))
    def test_reference(self, rules: list[Rule], versions: list[ListedVersion], hours: int) -> None:
        """
        The decision is that of the reference.
        """
        now = _LAST + hours * 3600 * _SECOND
        found = {(each.version.info.version_id, each.action) for each in told(rules, versions, now)}
        self.assertEqual(found, reference(rules, versions, now))

    @given(some_rules(), some_versions(), st.integers(0, 6 * 24))
    def test_order(self, rules: list[Rule], versions: list[ListedVersion], hours: int) -> None:
        """
        Each version is decided about once; what hides others goes behind them.
        """
        now = _LAST + hours * 3600 * _SECOND
        found = told(rules, versions, now)
        names = [each.version.info.version_id for each in found]
        self.assertEqual(len(set(names)), len(names))
        for place, each in enumerate(found):
            removed_for_good = each.action is Action.REMOVE
            self.assertEqual(each.last, removed_for_good and each.version.latest)
            if each.last:
                key = each.version.info.key
                self.assertNotIn(key, [other.version.info.key for other in found[place + 1 :]])
