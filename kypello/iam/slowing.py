# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Slows down those who guess: each source, and each user whom somebody tries to be, has a few
attempts at once, and then some in a minute.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from kypello.errors import KypelloError
from kypello.iam.logins import LoginRefused

#: How many sources, and how many users, are remembered; who has not tried for longest is
#: forgotten first.
MOST = 10_000

_T = TypeVar("_T")


@define(eq=False)
class TooManyAttempts(KypelloError):
    """
    So many attempts have failed that another one would have to wait for too long.

    :ivar retry_after: When to try again, in seconds.
    """

    retry_after: float


@define(eq=False)
class Pace:
    """
    How many failed attempts of each name are borne, and how many there were.

    :ivar burst: At once.
    :ivar rate: In a second, afterwards.
    :ivar most: How many names are remembered.
    :ivar _levels: The attempts that are not borne yet, and when that was, by name.
    """

    burst: float
    rate: float
    most: int = MOST
    _levels: "OrderedDict[str, tuple[float, float]]" = field(factory=OrderedDict)

    def wait(self, name: str, now: float) -> float:
        """
        How long the next attempt has to wait, in seconds.
        """
        return max(0.0, self._level(name, now) + 1 - self.burst) / self.rate

    def add(self, name: str, attempts: int, now: float) -> None:
        """
        Count attempts, or fewer of them.
        """
        level = self._level(name, now) + attempts
        self._levels.pop(name, None)
        if level > 0:
            self._levels[name] = level, now
            if len(self._levels) > self.most:
                self._levels.popitem(last=False)

    def _level(self, name: str, now: float) -> float:
        level, since = self._levels.get(name, (0.0, now))
        return max(0.0, level - (now - since) * self.rate)


@define(eq=False)
class Slowing:
    """
    Makes attempts wait their turn.

    An attempt counts from its beginning, so that many at once gain nothing, and does not count
    any longer when it is not refused.

    :ivar _patience: Who would have to wait for longer, in seconds, is refused.
    """

    _clock: IReactorTime
    _patience: float = 10.0
    _sources: Pace = field(factory=lambda: Pace(20, 2))
    _users: Pace = field(factory=lambda: Pace(10, 0.5))

    async def attempt(self, source: str, user: str, login: Callable[[], Awaitable[_T]]) -> _T:
        """
        Let somebody try, when it is their turn.

        :param source: The address that they come from.
        :param user: Whom they say to be; empty when that is not known before.
        :raises TooManyAttempts: It has not been tried.
        :raises KypelloError: Whatever *login* raises.
        """
        counted = [(self._sources, network_of(source))]
        if user:
            counted.append((self._users, user))
        now = self._clock.seconds()
        wait = max(pace.wait(name, now) for pace, name in counted)
        if wait > self._patience:
            raise TooManyAttempts(wait)
        for pace, name in counted:
            pace.add(name, 1, now)
        if wait > 0:
            await deferLater(self._clock, wait)
        try:
            result = await login()
        except LoginRefused:
            raise
        except KypelloError:
            # That was no guess; but who goes away meanwhile may have made one.
            self._forgive(counted)
            raise
        self._forgive(counted)
        return result

    def _forgive(self, counted: list[tuple[Pace, str]]) -> None:
        for pace, name in counted:
            pace.add(name, -1, self._clock.seconds())


def network_of(source: str) -> str:
    """
    What one person has for certain: an address of version 4, a network of version 6.
    """
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return source
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return source
