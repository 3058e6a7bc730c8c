# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.condition`` and ``kypello.policy.operators``.
"""

from collections.abc import Sequence

from attrs import frozen

from kypello.policy.condition import Condition, parse_conditions
from kypello.policy.operators import FAMILIES, OPPOSITES
from tests.cases import SyncCase


@frozen
class Row:
    """
    One operator with a key.

    :ivar expected: Of the policy.
    :ivar fitting: Values of a request that are meant.
    :ivar other: Values that are not.
    """

    operator: str
    key: str
    expected: Sequence[object]
    fitting: Sequence[str]
    other: Sequence[str]


_ARN = "arn:aws:iam::1:user/alice"
_NOON = "2026-11-26T12:00:00Z"
_BEFORE = ("2026-11-26T11:59:59Z", "1795694399", "2026-11-26T12:00:00+00:01")
_AFTER = ("2026-11-26T12:00:00.5Z", "1795694401", "2026-11-27")
_AT = ("2026-11-26T12:00:00+00:00", "1795694400", "2026-11-26T13:00:00+01:00", "2026-11-26T12:00")

#: Each operator that has an opposite, or is none: what fits and what does not.
ROWS = [
    Row("StringEquals", "aws:UserAgent", ["a*", "b"], ["a*", "b"], ["ab", "A*", "", "a*b"]),
    Row("StringEquals", "aws:UserAgent", ["${*}", "x", ""], ["*", "x", ""], ["${*}", "y"]),
    Row("StringEquals", "aws:UserAgent", ["${$}{*}"], ["${*}"], ["$", "${$}{*}"]),
    Row("StringEqualsIgnoreCase", "aws:UserAgent", ["aB*"], ["Ab*", "ab*"], ["abc", ""]),
    Row("StringLike", "aws:UserAgent", ["a*c", "x?"], ["ac", "a/c", "xy"], ["AC", "x", "xyz"]),
    Row("BinaryEquals", "aws:UserAgent", ["YWI="], ["ab"], ["YWI=", "a", ""]),
    Row(
        "ArnEquals",
        "aws:PrincipalArn",
        ["arn:aws:iam::*:user/a*"],
        [_ARN, "arn:aws:iam:::user/a"],
        ["arn:aws:iam:x::1:user/a", "arn:aws:iam::1:role/a", "alice", "arn:aws:iam::1"],
    ),
    Row("ArnLike", "aws:PrincipalArn", [_ARN, "*"], [_ARN, "x"], []),
    Row(
        "ArnLike",
        "aws:PrincipalArn",
        ["arn:*:user/alice"],
        [],
        [_ARN, "arn:x:user/alice/more"],
    ),
    Row("Bool", "aws:SecureTransport", ["true"], ["true", "True"], ["false", "", "1"]),
    Row("Bool", "aws:SecureTransport", [False], ["false"], ["true"]),
    Row(
        "IpAddress",
        "aws:SourceIp",
        ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"],
        ["192.0.2.9", "2001:db8::1", "198.51.100.7", "::ffff:192.0.2.9"],
        ["192.0.3.1", "2001:db9::1", "198.51.100.8", "", "unknown", "192.0.2.9, 192.0.2.9"],
    ),
    Row("NumericEquals", "s3:max-keys", [10, "+7"], ["10", "7", "010"], ["11", "", "x", "10.5"]),
    Row("NumericEquals", "s3:TlsVersion", [1.2], ["1.2", "1.20"], ["1.21", "1", "1.", ".2"]),
    Row("NumericLessThan", "s3:TlsVersion", ["1.2"], ["1.1", "1", "1.19"], ["1.2", "1.3", "2"]),
    Row("NumericLessThan", "s3:max-keys", ["10"], ["9", "-1"], ["10", "11", "x", ""]),
    Row("NumericLessThanEquals", "s3:max-keys", ["10"], ["9", "10"], ["11", "x"]),
    Row("NumericGreaterThan", "s3:max-keys", ["10"], ["11"], ["10", "9", "x"]),
    Row("NumericGreaterThanEquals", "s3:max-keys", ["10"], ["11", "10"], ["9", "x"]),
    Row("DateEquals", "aws:CurrentTime", [_NOON], _AT, [*_BEFORE, *_AFTER, "", "soon"]),
    Row("DateLessThan", "aws:CurrentTime", [_NOON], _BEFORE, [*_AT, *_AFTER, "soon"]),
    Row("DateLessThanEquals", "aws:CurrentTime", [_NOON], [*_AT, *_BEFORE], [*_AFTER, "soon"]),
    Row("DateGreaterThan", "aws:CurrentTime", [_NOON], _AFTER, [*_AT, *_BEFORE, "soon"]),
    Row("DateGreaterThanEquals", "aws:EpochTime", [1795694400], [*_AT, *_AFTER], [*_BEFORE]),
]

_NEGATED = {family: negated for negated, family in OPPOSITES.items()}


def holds(operator: str, key: str, expected: object, *given: str) -> bool:
    """
    Whether a condition holds for a request whose key has these values; none: it is absent.
    """
    condition = one(operator, key, expected)
    return condition.holds(lambda name: given if name == key.lower() else ())


def one(operator: str, key: str, expected: object) -> Condition:
    """
    A single condition.
    """
    (condition,) = parse_conditions({operator: {key: expected}}, variables=True)
    return condition


class OperatorTests(SyncCase):
    """
    What each operator makes of absent keys, one value and several ones.
    """

    def test_complete(self) -> None:
        """
        Every operator is tested.
        """
        self.assertEqual({row.operator for row in ROWS}, set(FAMILIES))

    def test_one_value(self) -> None:
        """
        One value fits or not; with the opposite operator it is the other way round.
        """
        for row in ROWS:
            operators = [(row.operator, True), (f"{row.operator}IfExists", True)]
            if row.operator in _NEGATED:
                opposite = _NEGATED[row.operator]
                operators += [(opposite, False), (f"{opposite}IfExists", False)]
            for operator, positive in operators:
                for quantifier in ("", "ForAnyValue:", "ForAllValues:"):
                    for value in row.fitting:
                        self.assertIs(
                            holds(quantifier + operator, row.key, row.expected, value),
                            positive,
                            (quantifier, operator, row.expected, value),
                        )
                    for value in row.other:
                        self.assertIs(
                            holds(quantifier + operator, row.key, row.expected, value),
                            not positive,
                            (quantifier, operator, row.expected, value),
                        )

    def test_absent(self) -> None:
        """
        Without a value a condition does not hold, unless its operator denies, is for all
        values, or says that the key need not exist.
        """
        for row in ROWS:
            positive, negated = row.operator, _NEGATED.get(row.operator)
            for operator, expected in (
                (positive, False),
                (f"ForAnyValue:{positive}", False),
                (f"ForAllValues:{positive}", True),
                (f"{positive}IfExists", True),
                (f"ForAnyValue:{positive}IfExists", True),
                (negated, True),
                (negated and f"ForAnyValue:{negated}", False),
                (negated and f"ForAllValues:{negated}", True),
                (negated and f"{negated}IfExists", True),
            ):
                if operator:
                    self.assertIs(holds(operator, row.key, row.expected), expected, operator)

    def test_several_values(self) -> None:
        """
        Of several values one that fits is enough, unless it is for all; an operator that denies
        wants none to fit, or one that does not, or none again.
        """
        for row in ROWS:
            if not row.fitting or not row.other:
                continue
            mixed = (row.other[0], row.fitting[0], row.other[-1])
            alike = (row.fitting[0], row.fitting[-1])
            for operator, of_mixed, of_alike in (
                (row.operator, True, True),
                (f"ForAnyValue:{row.operator}", True, True),
                (f"ForAllValues:{row.operator}", False, True),
            ):
                self.assertIs(holds(operator, row.key, row.expected, *mixed), of_mixed, operator)
                self.assertIs(holds(operator, row.key, row.expected, *alike), of_alike, operator)
            negated = _NEGATED.get(row.operator)
            if negated is None:
                continue
            for operator, of_mixed, of_alike in (
                (negated, False, False),
                (f"ForAnyValue:{negated}", True, False),
                (f"ForAllValues:{negated}", False, False),
            ):
                self.assertIs(holds(operator, row.key, row.expected, *mixed), of_mixed, operator)
                self.assertIs(holds(operator, row.key, row.expected, *alike), of_alike, operator)

    def test_null(self) -> None:
        """
        ``Null`` tells whether the key is absent.
        """
        for expected, absent, present in (
            ("true", True, False),
            (True, True, False),
            ("false", False, True),
            (False, False, True),
            (["true", "false"], True, True),
        ):
            self.assertIs(holds("Null", "aws:UserAgent", expected), absent)
            self.assertIs(holds("Null", "aws:UserAgent", expected, "a"), present)

    def test_variables(self) -> None:
        """
        Texts and ARNs of the policy may have variables.
        """

        def lookup(name: str) -> Sequence[str]:
            return {
                "aws:username": ["alice"],
                "s3:prefix": ["home/alice/x"],
                "aws:useragent": ["Alice"],
                "aws:principalarn": ["arn:aws:iam:::user/alice"],
                "aws:sourcearn": ["arn:aws:alice:::x"],
            }.get(name, [])

        for operator, key, text, expected in (
            ("StringLike", "s3:prefix", "home/${aws:username}/*", True),
            ("StringNotLike", "s3:prefix", "home/${aws:username}/*", False),
            ("StringEquals", "s3:prefix", "home/${aws:username}/x", True),
            ("StringEquals", "s3:prefix", "home/${aws:username}/*", False),
            ("StringLike", "s3:prefix", "home/${aws:userid}/*", False),
            ("StringEqualsIgnoreCase", "aws:UserAgent", "${aws:username}", True),
            ("ArnEquals", "aws:PrincipalArn", "arn:aws:iam:::user/${aws:username}", True),
            ("ArnEquals", "aws:PrincipalArn", "arn:aws:iam:::user/${aws:userid}", False),
            ("ArnEquals", "aws:SourceArn", "arn:aws:${aws:username}:::x", True),
        ):
            self.assertIs(one(operator, key, text).holds(lookup), expected, (operator, text))

    def test_needed(self) -> None:
        """
        What a variable of an operator that denies stands for has to be known.
        """
        text = "${aws:username}-${jwt:sub, 'x'}"
        for operator, needed in (
            ("StringEquals", set()),
            ("StringNotEquals", {"aws:username"}),
            ("StringNotLike", {"aws:username"}),
            ("ArnNotLike", {"aws:username"}),
        ):
            self.assertEqual(one(operator, "aws:UserAgent", text).needed, needed)

    def test_tags(self) -> None:
        """
        The key of a tag keeps its case, and tells that tags are asked for.
        """
        condition = one("StringEquals", "S3:existingobjecttag/Team/A", "x")
        self.assertEqual(condition.key, "s3:existingobjecttag/Team/A")
        self.assertTrue(condition.asks_tags)
        self.assertFalse(one("StringEquals", "s3:RequestObjectTag/Team", "x").asks_tags)
