# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Opened master keys, kept for a bounded time.
"""

from attrs import define, evolve, field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.crypto.masterkey import MasterKey

#: What took longer to fail, in seconds, would take long again; and for how long that is believed.
_LONG, _SILENCE = 1.0, 10.0


@frozen
class Expiry:
    """
    How long keys are kept, in seconds.

    :ivar any: From the moment a key was read.
    :ivar unused: From its last use.
    :ivar offline: How long keys serve on after the last good word from a key store that cannot
        be reached; ``0`` for not at all.
    """

    any: float = 300.0
    unused: float = 30.0
    offline: float = 0.0


@frozen
class _Entry:
    """
    A key that was read.

    :ivar read: When, in seconds of the clock.
    :ivar used: When it was last given out.
    """

    key: MasterKey
    read: float
    used: float


@define(eq=False)
class KeyCache:
    """
    Keys by name.

    Each entry has an age of its own.  Without an offline time what has expired is gone with the
    next :meth:`sweep`; with one it is kept that much longer, for :meth:`stale` alone.

    :ivar _limit: How many keys are kept; the ones used last.
    :ivar _entries: In the order of their last use.
    :ivar offline: The key store has not answered since it was last asked, so that nobody should
        wait for it who need not.
    :ivar _contact: When it last answered, in seconds of the clock.
    :ivar _silent: Until when nobody need ask how it is, since somebody has just waited in vain.
    """

    _clock: IReactorTime
    _expiry: Expiry
    _limit: int = 10_000
    _entries: dict[str, _Entry] = field(factory=dict, repr=False)
    offline: bool = False
    _contact: float = float("-inf")
    _silent: float = float("-inf")

    def get(self, name: str) -> MasterKey | None:
        """
        A key that has not expired.
        """
        now = self._clock.seconds()
        entry = self._entries.get(name)
        if entry is None or not self._fresh(entry, now):
            return None
        del self._entries[name]
        self._entries[name] = evolve(entry, used=now)
        return entry.key

    def stale(self, name: str) -> MasterKey | None:
        """
        A key that may be used because the key store cannot be asked: expired or not, while the
        last contact is not longer ago than the offline time.
        """
        entry = self._entries.get(name)
        if entry is None or self._clock.seconds() - self._contact >= self._expiry.offline:
            return None
        return entry.key

    def put(self, name: str, key: MasterKey) -> None:
        """
        Keep a key that was just read.
        """
        now = self._clock.seconds()
        self.drop(name)
        if len(self._entries) >= self._limit:
            del self._entries[next(iter(self._entries))]
        self._entries[name] = _Entry(key, now, now)

    def drop(self, name: str) -> None:
        """
        Forget a key.
        """
        self._entries.pop(name, None)

    @property
    def silent(self) -> bool:
        """
        Whether somebody has waited for the key store in vain a moment ago.
        """
        return self._clock.seconds() < self._silent

    def asked(self) -> float:
        """
        When the key store is asked that is asked now, in seconds of the clock.
        """
        return self._clock.seconds()

    def contact(self) -> None:
        """
        The key store has just answered.
        """
        self._contact = self._clock.seconds()
        self._silent = float("-inf")
        self.offline = False

    def lost(self, asked: float) -> None:
        """
        The key store has just not answered.

        :param asked: When it was asked, in seconds of the clock.
        """
        now = self._clock.seconds()
        if now - asked > _LONG:
            self._silent = now + _SILENCE
        self.offline = True

    def sweep(self) -> None:
        """
        Forget what nobody may use any more; called now and then.
        """
        now = self._clock.seconds()
        self._entries = {
            name: entry
            for name, entry in self._entries.items()
            if self._fresh(entry, now) or now - self._contact < self._expiry.offline
        }

    def _fresh(self, entry: _Entry, now: float) -> bool:
        return now - entry.read < self._expiry.any and now - entry.used < self._expiry.unused
