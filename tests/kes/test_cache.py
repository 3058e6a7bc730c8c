# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.cache``.
"""

from twisted.internet.task import Clock

from kypello.crypto.masterkey import MasterKey
from kypello.kes.cache import Expiry, KeyCache
from tests.cases import SyncCase

_KEY = MasterKey(bytes(32), "AES256", bytes(32), "", "")


class KeyCacheTests(SyncCase):
    """
    ``KeyCache`` keeps keys for a bounded time.
    """

    def make_cache(self, offline: float = 0.0) -> KeyCache:
        """
        A cache that keeps keys for 100 seconds, and for 30 unused ones.
        """
        self.clock = Clock()
        return KeyCache(self.clock, Expiry(100.0, 30.0, offline))

    def test_absent(self) -> None:
        """
        A name that was never put gives nothing.
        """
        cache = self.make_cache()
        self.assertIsNone(cache.get("k"))
        self.assertIsNone(cache.stale("k"))

    def test_unused(self) -> None:
        """
        A key that nobody used for a while is gone.
        """
        cache = self.make_cache()
        cache.put("k", _KEY)
        self.clock.advance(29.0)
        self.assertIs(cache.get("k"), _KEY)
        self.clock.advance(29.0)
        self.assertIs(cache.get("k"), _KEY)
        self.clock.advance(30.0)
        self.assertIsNone(cache.get("k"))

    def test_any(self) -> None:
        """
        However busy, a key is gone some time after it was read; others have ages of their own.
        """
        cache = self.make_cache()
        cache.put("old", _KEY)
        self.clock.advance(20.0)
        cache.put("young", _KEY)
        for _ in range(4):
            self.assertIs(cache.get("old"), _KEY)
            self.assertIs(cache.get("young"), _KEY)
            self.clock.advance(20.0)
        self.assertIsNone(cache.get("old"))
        self.assertIs(cache.get("young"), _KEY)

    def test_drop(self) -> None:
        """
        A dropped key is gone at once, also as a stale one; dropping it again is no error.
        """
        cache = self.make_cache(offline=1000.0)
        cache.contact()
        cache.put("k", _KEY)
        cache.drop("k")
        cache.drop("k")
        self.assertIsNone(cache.get("k"))
        self.assertIsNone(cache.stale("k"))

    def test_stale(self) -> None:
        """
        An expired key serves as a stale one until the last contact is too long ago.
        """
        cache = self.make_cache(offline=500.0)
        cache.put("k", _KEY)
        self.clock.advance(200.0)
        cache.contact()
        self.clock.advance(499.0)
        cache.sweep()
        self.assertIsNone(cache.get("k"))
        self.assertIs(cache.stale("k"), _KEY)
        self.clock.advance(1.0)
        self.assertIsNone(cache.stale("k"))

    def test_never_stale(self) -> None:
        """
        Without an offline time there are no stale keys.
        """
        cache = self.make_cache()
        cache.contact()
        cache.put("k", _KEY)
        self.assertIsNone(cache.stale("k"))

    def test_sweep(self) -> None:
        """
        A sweep leaves nothing in memory that has expired, and all that has not.
        """
        cache = self.make_cache()
        cache.put("old", _KEY)
        self.clock.advance(20.0)
        cache.put("young", _KEY)
        self.clock.advance(15.0)
        cache.sweep()
        self.assertEqual(list(cache._entries), ["young"])

    def test_limit(self) -> None:
        """
        No more keys are kept than allowed, and those that were used last; stale ones count.
        """
        self.clock = Clock()
        cache = KeyCache(self.clock, Expiry(100.0, 100.0, 1000.0), 3)
        for name in ("a", "b", "c", "c"):
            cache.put(name, _KEY)
        cache.get("a")
        cache.put("d", _KEY)
        cache.contact()
        self.clock.advance(200.0)
        cache.sweep()
        self.assertEqual([n for n in "abcd" if cache.stale(n) is not None], ["a", "c", "d"])

    def test_no_keys_in_repr(self) -> None:
        """
        The text form of a cache does not even name its keys.
        """
        cache = self.make_cache()
        cache.put("my-name", _KEY)
        self.assertNotIn("my-name", repr(cache))
