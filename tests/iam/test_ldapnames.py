# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.ldapnames`` and ``ldapfilter``: names and filters of a directory.
"""

from hypothesis import given
from hypothesis import strategies as st
from ldaptor.protocols import pureldap

from kypello.errors import ConfigurationError
from kypello.iam.ldap import check_settings
from kypello.iam.ldapfilter import read_filter
from kypello.iam.ldapnames import normal_name
from kypello.identityconfig import LDAPSettings
from tests.cases import SyncCase


class NameTests(SyncCase):
    """
    Names of entries.
    """

    def test_spellings(self) -> None:
        """
        All spellings of a name are one.
        """
        for spelling in (
            "uid=alice,ou=people,dc=example",
            "UID=Alice, OU=People , DC=Example",
            "uid = alice;ou= people;dc=example",
            r"uid=al\69ce,ou=people,dc=example",
            r"uid=alice\20,ou=people,dc=example",
        ):
            self.assertEqual(normal_name(spelling), "uid=alice,ou=people,dc=example")

    def test_escapes(self) -> None:
        """
        What must be escaped stays so, and nothing else does.
        """
        for spelling, normal in (
            (r"cn=a\,b,dc=x", r"cn=a\,b,dc=x"),
            (r"cn=a\2cb,dc=x", r"cn=a\,b,dc=x"),
            (r"cn=a\+b\=c\"d\\e", r"cn=a\+b\=c\"d\\e"),
            (r"cn=J\c3\b6rg", "cn=j\u00f6rg"),
            (r"cn=\#1", r"cn=\#1"),
            (r"cn=a\00b\0a", r"cn=a\00b\0a"),
            ("cn=b+UID=a,dc=x", "cn=b+uid=a,dc=x"),
            ("uid=a+cn=b,dc=x", "cn=b+uid=a,dc=x"),
            ("2.5.4.3=a", "2.5.4.3=a"),
        ):
            self.assertEqual(normal_name(spelling), normal)
            self.assertEqual(normal_name(normal), normal)

    def test_different(self) -> None:
        """
        Different names stay different.
        """
        names = (r"cn=a\,dc=x", "cn=a,dc=x", r"cn=a\+dc=x", "cn=a+dc=x", r"cn=a\\,dc=x", "cn=,dc=x")
        self.assertEqual(len({normal_name(name) for name in names}), len(names))

    def test_no_name(self) -> None:
        """
        What is no name is refused.
        """
        for text in (
            "",
            "alice",
            "uid=alice,",
            ",uid=alice",
            "uid=a,,dc=x",
            "=a",
            "1x=a",
            "cn=a\\",
            r"cn=a\zz",
            r"cn=\ff",
            "cn=<a>",
            "cn=a\x00",
            'cn="a"',
        ):
            with self.assertRaises(ValueError):
                normal_name(text)

    @given(st.text(max_size=20))
    def test_stable(self, value: str) -> None:
        """
        A name that is written in one way already stays as it is.
        """
        escaped = "".join(f"\\{byte:02x}" for byte in value.encode("utf-8", "replace"))
        normal = normal_name(f"cn={escaped},dc=x")
        self.assertEqual(normal_name(normal), normal)
        self.assertTrue(normal.isprintable())


class FilterTests(SyncCase):
    """
    Filters.
    """

    def test_wire(self) -> None:
        """
        Filters are sent as the protocol describes them.
        """
        for template, wire in (
            ("(uid=%s)", "a308 0403 756964 0401 2a"),
            ("(!(uid=a))", "a20a a308 0403 756964 0401 61"),
            ("(&(uid=a)(uid=*))", "a00f a308 0403 756964 0401 61 8703 756964"),
            ("(|(uid>=a)(uid<=b))", "a114 a508 0403756964 0401 61 a608 0403756964 0401 62"),
            ("(uid~=a)", "a808 0403756964 0401 61"),
            ("(uid=a*b*c)", "a410 0403756964 3009 800161 810162 820163"),
            ("(uid=\\e4\\2a)", "a309 0403756964 0402 e42a"),
            ("(cn:1.2:=a)", "a90c 8103 312e32 8202 636e 8301 61"),
        ):
            found = read_filter(template, {"s": "*"})
            self.assertEqual(found.toWire().hex(), wire.replace(" ", ""), template)

    @given(st.text(max_size=30))
    def test_values(self, value: str) -> None:
        """
        Whatever a client says is one value, as it is, within the filter as it was.
        """
        raw = value.encode("utf-8", "surrogatepass")
        value = raw.decode("utf-8", "replace")
        found = read_filter("(&(a=1)(b=x%sy)(c=*%s*))", {"s": value})
        self.assertIsInstance(found, pureldap.LDAPFilter_and)
        first, second, third = found.data
        self.assertEqual(first.assertionValue.value, b"1")
        self.assertEqual(second.assertionValue.value, b"x" + value.encode() + b"y")
        (part,) = third.substrings
        self.assertEqual(part.value, value.encode())

    def test_placeholders(self) -> None:
        """
        Each place has its own value; a percent sign alone is one.
        """
        found = read_filter("(a=%s-%d-%-%%)", {"s": "%d", "d": "%s"})
        self.assertEqual(found.assertionValue.value, b"%d-%s-%-%%")

    def test_no_filter(self) -> None:
        """
        What is no filter is refused.
        """
        for template in (
            "",
            "uid=a",
            "(uid=a",
            "(uid=a))",
            "()",
            "(uid)",
            "(=a)",
            "(&)",
            "(!(a=1)(b=2))",
            "(&(a=1)x)",
            "(a=\\2)",
            "(a=\\zz)",
            "(a=**)",
            "(:=a)",
            "(a=%d)",
            "(a b=c)",
            "(!" * 40 + "(a=b)" + ")" * 40,
        ):
            with self.assertRaises(ValueError):
                read_filter(template, {"s": "x"})

    def test_settings(self) -> None:
        """
        All mistakes in settings are told together.
        """
        good = LDAPSettings(
            "h", 636, user_bases=("dc=x",), user_filter="(a=%s)", group_filter="(b=%d)"
        )
        check_settings(good)
        bad = LDAPSettings(
            "h", 636, user_bases=("x",), user_filter="(a=%d)", group_filter="(", group_bases=("y",)
        )
        with self.assertRaises(ConfigurationError) as caught:
            check_settings(bad)
        self.assertEqual(len(caught.exception.mistakes), 4)
