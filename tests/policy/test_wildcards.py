# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.policy.wildcards``.
"""

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from kypello.policy.wildcards import Lookup, Template
from tests.cases import SyncCase


def values(**given_values: str) -> Lookup:
    """
    A lookup of ``aws:`` keys with one value each.
    """
    known: Mapping[str, Sequence[str]] = {
        f"aws:{name}": (value,) for name, value in given_values.items()
    }
    return lambda name: known.get(name, ())


def fits(pattern: str, text: str) -> bool:
    """
    The definition: ``*`` is any text, ``?`` any character.
    """
    places = {0}
    for sign in pattern:
        if sign == "*":
            places = set(range(min(places), len(text) + 1)) if places else places
        else:
            places = {
                place + 1 for place in places if place < len(text) and sign in ("?", text[place])
            }
    return len(text) in places


class WildcardTests(SyncCase):
    """
    ``*`` and ``?`` stand for text.
    """

    def test_examples(self) -> None:
        """
        Stars stand for any text with slashes in it, question marks for one character.
        """
        for pattern, text, expected in (
            ("", "", True),
            ("", "a", False),
            ("*", "", True),
            ("*", "a/b", True),
            ("a*", "a/b", True),
            ("a*", "b", False),
            ("*b", "a/b", True),
            ("a*b", "ab", True),
            ("a*ba", "aba", True),
            ("a*ab", "ab", False),
            ("a?b", "a/b", True),
            ("a?b", "ab", False),
            ("a??*", "ab", False),
            ("a?", "a\n", True),
            ("a*b*c", "a-c-b-c", True),
            ("a*b*c", "a-c-b", False),
            ("[a]", "[a]", True),
            ("[a]", "a", False),
            ("a.?", "a.b", True),
            ("a.?", "axb", False),
        ):
            self.assertEqual(Template(pattern).matches(text, values()), expected, (pattern, text))

    @given(st.text("ab*?/", max_size=8), st.text("ab/", max_size=10))
    def test_definition(self, pattern: str, text: str) -> None:
        """
        What matches is what the definition says.
        """
        self.assertEqual(Template(pattern).matches(text, values()), fits(pattern, text))

    @given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
    def test_beginning_and_part(self, pattern: str, text: str) -> None:
        """
        Everything that matches begins with the beginning and has the part.
        """
        template = Template(pattern)
        if template.matches(text, values()):
            self.assertTrue(text.startswith(template.prefix))
            self.assertIn(template.part, text)

    def test_dear_pattern(self) -> None:
        """
        A pattern that backtracking would never finish with is decided.
        """
        pattern = Template("a*" * 500 + "b" + "?*" * 500)
        self.assertFalse(pattern.matches("a" * 1024, values()))

    def test_folded(self) -> None:
        """
        Upper and lower case can be the same.
        """
        template = Template("Ab*${aws:username}", folded=True)
        self.assertTrue(template.matches("aB-ALICE", values(username="Alice")))
        self.assertFalse(template.matches("aB-bob", values(username="Alice")))
        self.assertEqual((template.prefix, template.part), ("", ""))

    def test_without_wildcards(self) -> None:
        """
        Stars and question marks can be just characters.
        """
        template = Template("a*?", wild=False)
        self.assertTrue(template.matches("a*?", values()))
        self.assertFalse(template.matches("abc", values()))
        self.assertTrue(template.fixed)
        self.assertFalse(Template("a*").fixed)

    def test_everything(self) -> None:
        """
        A pattern of stars stands for every text, others do not.
        """
        self.assertTrue(Template("*").everything)
        self.assertTrue(Template("**").everything)
        for pattern in ("", "?", "*a", "*?"):
            self.assertFalse(Template(pattern).everything)


class VariableTests(SyncCase):
    """
    ``${...}`` stands for the value of a condition key.
    """

    def test_value(self) -> None:
        """
        The first value is put in, the name in any case.
        """
        template = Template("home/${aws:UserName}/*")
        self.assertTrue(template.matches("home/alice/x", values(username="alice")))
        self.assertFalse(template.matches("home/bob/x", values(username="alice")))
        self.assertFalse(template.matches("home/alice/x", values(username="bob")))

    def test_absent(self) -> None:
        """
        Without a value and without a default it stands for nothing, not for the empty text.
        """
        template = Template("home/${aws:username}*")
        self.assertFalse(template.matches("home/", values()))
        self.assertFalse(template.matches("home/${aws:username}", values()))
        self.assertEqual(template.variables, {"aws:username"})

    def test_default(self) -> None:
        """
        A default takes the place of a value.
        """
        template = Template("home/${aws:username, 'all of you'}/*")
        self.assertTrue(template.matches("home/all of you/x", values()))
        self.assertTrue(template.matches("home/alice/x", values(username="alice")))
        self.assertFalse(template.matches("home/all of you/x", values(username="alice")))
        self.assertEqual(template.variables, frozenset())

    def test_wildcards_in_values(self) -> None:
        """
        Wildcards and variables in a value are just characters.
        """
        for name in ("*", "?", "${aws:userid}"):
            template = Template("home/${aws:username}/x")
            self.assertTrue(template.matches(f"home/{name}/x", values(username=name)))
            self.assertFalse(template.matches("home/a/x", values(username=name, userid="a")), name)

    def test_signs(self) -> None:
        """
        A wildcard, or the dollar sign, can be meant itself.
        """
        template = Template("${*}${?}${$}{a}")
        self.assertTrue(template.matches("*?${a}", values()))
        self.assertFalse(template.matches("ab${a}", values()))
        self.assertFalse(template.varies)

    def test_unknown(self) -> None:
        """
        What is no variable stays as it is written.
        """
        for text in ("${aws:nope}", "${s3:prefix}", "${", "${}", "$a", "${a${b}"):
            template = Template(text)
            self.assertFalse(template.varies)
            self.assertTrue(template.matches(text, values()), text)

    def test_off(self) -> None:
        """
        There are none in the old version of the language.
        """
        template = Template("${aws:username}", variables=False)
        self.assertTrue(template.matches("${aws:username}", values(username="alice")))

    def test_many_values(self) -> None:
        """
        What is remembered of earlier values never leaks into another decision.
        """
        template = Template("${aws:username}/*")
        for number in [*range(40), *range(40)]:
            self.assertTrue(template.matches(f"u{number}/x", values(username=f"u{number}")))
            self.assertFalse(template.matches(f"u{number}/x", values(username=f"u{number + 1}")))

    def test_equality(self) -> None:
        """
        Templates are equal when they stand for the same.
        """
        self.assertEqual(Template("a*"), Template("a*"))
        self.assertEqual(hash(Template("a*")), hash(Template("a*")))
        self.assertNotEqual(Template("a*"), Template("a?"))
        self.assertNotEqual(Template("a"), Template("a", folded=True))
        self.assertNotEqual(Template("*"), Template("*", wild=False))
        self.assertFalse(Template("a") == "a")
        self.assertEqual(repr(Template("a*")), "Template('a*')")
