# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.wire``.
"""

from hypothesis import given
from hypothesis.strategies import text

from kypello.kes.wire import (
    Fields,
    Malformed,
    Selection,
    continuation,
    is_name,
    parse_fields,
    parse_selection,
)
from tests.cases import SyncCase

_NAMES = text("abcXYZ019_-", min_size=1, max_size=80).filter(is_name)


class NameTests(SyncCase):
    """
    ``is_name`` knows KES's names.
    """

    def test_names(self) -> None:
        """
        Letters, digits, underscores and inner hyphens are names.
        """
        for name in ("a", "0", "a-b", "_a", "a_", "__", "x" * 80):
            self.assertTrue(is_name(name), name)

    def test_others(self) -> None:
        """
        Everything else is not.
        """
        for name in ("", "_", "-", "-a", "a-", "a.b", "a/b", "a b", "a\n", "\xe4", "x" * 81):
            self.assertFalse(is_name(name), name)


class SelectionTests(SyncCase):
    """
    ``parse_selection`` reads listing patterns.
    """

    def test_patterns(self) -> None:
        """
        A star at the end changes nothing.
        """
        self.assertEqual(parse_selection(""), Selection(""))
        self.assertEqual(parse_selection("*"), Selection(""))
        self.assertEqual(parse_selection("my-"), Selection("my-"))
        self.assertEqual(parse_selection("my-*"), Selection("my-"))

    @given(_NAMES, _NAMES)
    def test_continuation(self, prefix: str, last: str) -> None:
        """
        A continuation is read back, and is the beginning of no name.
        """
        token = continuation(prefix, last)
        self.assertEqual(parse_selection(token), Selection(prefix, last))
        self.assertFalse(is_name(token))


class FieldsTests(SyncCase):
    """
    ``parse_fields`` and ``Fields`` read request bodies.
    """

    def test_absent(self) -> None:
        """
        Members that are absent or null are empty.
        """
        fields = parse_fields(b'{"a":null}')
        self.assertEqual((fields.text("a"), fields.binary("b")), ("", b""))

    def test_binary(self) -> None:
        """
        Binary members are base64 with padding.
        """
        self.assertEqual(Fields({"a": "aGk="}).binary("a"), b"hi")
        for value in ("aGk", "a-_=", "aGk=\n!", "\xe4", 1, ["aGk="]):
            with self.assertRaises(Malformed):
                Fields({"a": value}).binary("a")

    def test_no_secrets(self) -> None:
        """
        Neither the fields nor the error for a bad one tell what was sent.
        """
        fields = Fields({"a": "secret!"})
        self.assertNotIn("secret", repr(fields))
        with self.assertRaises(Malformed) as caught:
            fields.binary("a")
        self.assertNotIn("secret", repr(caught.exception))
        self.assertIsNone(caught.exception.__cause__)
