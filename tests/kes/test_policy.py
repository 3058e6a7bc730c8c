# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.policy``.
"""

from kypello.kes.policy import Access, Decision, Policy, glob_sign, matches
from tests.cases import SyncCase

_APP = Policy(
    "app",
    allow=("/v1/key/create/app-*", "/v1/key/generate/app-*", "/v1/status"),
    deny=("/v1/key/generate/app-secret", "/v1/key/create/app-x*"),
)
_ACCESS = Access("admin", {"app-id": _APP, "idle-id": Policy("idle")})


class MatchesTests(SyncCase):
    """
    ``matches`` tells what a rule speaks of.
    """

    def test_exact(self) -> None:
        """
        Without a star at its end a rule speaks of one path only.
        """
        self.assertTrue(matches("/v1/status", "/v1/status"))
        self.assertFalse(matches("/v1/status", "/v1/status/"))
        self.assertFalse(matches("/v1/key/list", "/v1/key/list/"))

    def test_prefix(self) -> None:
        """
        With a star at its end it speaks of all paths that begin so, across slashes.
        """
        self.assertTrue(matches("/v1/key/*", "/v1/key/create/a"))
        self.assertTrue(matches("/v1/key/create/a*", "/v1/key/create/a"))
        self.assertFalse(matches("/v1/key/create/a*", "/v1/key/create/b"))
        self.assertTrue(matches("*", "/anything"))

    def test_star_inside(self) -> None:
        """
        Any other star stands for itself.
        """
        self.assertFalse(matches("/v1/key/*/a", "/v1/key/create/a"))
        self.assertTrue(matches("/v1/key/*/a", "/v1/key/*/a"))

    def test_empty(self) -> None:
        """
        The empty rule speaks of no path.
        """
        self.assertFalse(matches("", ""))


class GlobSignTests(SyncCase):
    """
    ``glob_sign`` finds what old rules meant and new ones do not.
    """

    def test_found(self) -> None:
        """
        A star before the end, a question mark and an opening bracket are found.
        """
        self.assertEqual(glob_sign("/v1/key/*/bucket1-key"), "*")
        self.assertEqual(glob_sign("/v1/**"), "*")
        self.assertEqual(glob_sign("/v1/key/create/key-?"), "?")
        self.assertEqual(glob_sign("/v1/key/create/[a-z]*"), "[")

    def test_not_found(self) -> None:
        """
        A star at the end is a wildcard still.
        """
        self.assertIsNone(glob_sign("/v1/key/create/*"))
        self.assertIsNone(glob_sign("/v1/status"))


class AccessTests(SyncCase):
    """
    ``Access`` judges calls.
    """

    def test_admin(self) -> None:
        """
        The administrator may do everything.
        """
        self.assertEqual(_ACCESS.decide("admin", "/v1/key/delete/a"), Decision(True))

    def test_unknown(self) -> None:
        """
        An identity without a policy may do nothing.
        """
        self.assertEqual(_ACCESS.decide("stranger", "/v1/status"), Decision(False))

    def test_allowed(self) -> None:
        """
        A call that an allow rule speaks of is allowed, and the decision names the rule.
        """
        self.assertEqual(
            _ACCESS.decide("app-id", "/v1/key/create/app-1"),
            Decision(True, "app", "/v1/key/create/app-*"),
        )

    def test_denied(self) -> None:
        """
        A deny rule counts more than any allow rule.
        """
        self.assertEqual(
            _ACCESS.decide("app-id", "/v1/key/generate/app-secret"),
            Decision(False, "app", "/v1/key/generate/app-secret", denied=True),
        )
        self.assertEqual(
            _ACCESS.decide("app-id", "/v1/key/create/app-xy"),
            Decision(False, "app", "/v1/key/create/app-x*", denied=True),
        )

    def test_not_allowed(self) -> None:
        """
        What no rule allows is refused, and the decision names the rule that comes closest.
        """
        self.assertEqual(
            _ACCESS.decide("app-id", "/v1/key/generate/other"),
            Decision(False, "app", "/v1/key/generate/app-*"),
        )

    def test_no_rules(self) -> None:
        """
        A policy without rules allows nothing.
        """
        self.assertEqual(_ACCESS.decide("idle-id", "/v1/status"), Decision(False, "idle"))
