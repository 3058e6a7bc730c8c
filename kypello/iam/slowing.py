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
from twisted.logger import Logger

from kypello.errors import KypelloError
from kypello.iam.logins import LoginRefused
from kypello.iam.pace import Attempts, Pace

#: How many failures of a source are answered at once, and how many in a second afterwards.
BURST, RATE = 20, 2.0

#: The longest that the answer to a failure is held back, in seconds.
LONGEST = 5.0

#: How long a source has to be quiet until it is told of again, in seconds.
QUIET = 60.0

#: How many sources are remembered that were told of.
_MOST = 1000

_log = Logger()

_T = TypeVar("_T")


@define(eq=False)
class TooManyAttempts(KypelloError):
    """
    So many attempts have failed that another one would have to wait for too long.

    :ivar retry_after: When to try again, in seconds.
    """

    retry_after: float


@define(eq=False)
class Slowing:
    """
    Makes those wait who fail again and again.

    An attempt to log in waits its turn: it counts from its beginning, so that many at once gain
    nothing, and does not count any longer when it is not refused.  Of other requests, which cost
    next to nothing to check, failures alone count, and their answers wait.

    :ivar _patience: Who would have to wait for longer to log in, in seconds, is refused.
    :ivar _sources: Logins by where they come from.
    :ivar _users: Logins by who is tried.
    :ivar _failures: Other failures by where they come from.
    :ivar _told: When an answer to a source that was told of was held back last.
    """

    _clock: IReactorTime
    _patience: float = 10.0
    _sources: Pace = field(factory=lambda: Pace(20, 2))
    _users: Pace = field(factory=lambda: Pace(10, 0.5))
    _failures: Pace = field(factory=lambda: Pace(BURST, RATE))
    _told: "OrderedDict[str, float]" = field(init=False, factory=OrderedDict)

    @classmethod
    def shared(cls, clock: IReactorTime, descriptor: int) -> "Slowing":
        """
        Count together with the other processes of a server.

        :param descriptor: Of what they share; ``-1`` when this process is the only one.
        """
        attempts = Attempts(descriptor)
        return cls(
            clock,
            sources=Pace(20, 2, attempts, "source"),
            users=Pace(10, 0.5, attempts, "user"),
            failures=Pace(BURST, RATE, attempts, "failure"),
        )

    async def failed(self, source: str) -> None:
        """
        Count a failure, and hold back its answer if there were many.

        A source that goes on is told of in the log once, until it has been quiet for a while.

        :param source: The address of the client.
        """
        name, now = network_of(source), self._clock.seconds()
        delay = self._failures.add(name, 1, now)
        if delay:
            self._tell(name, source, now)
            await deferLater(self._clock, min(LONGEST, delay))

    def _tell(self, name: str, source: str, now: float) -> None:
        # Who waits for each answer is held back a little, again and again.
        last = self._told.pop(name, None)
        if last is None or now - last > QUIET:
            _log.warn("{source} fails to authenticate again and again", source=source)
        self._told[name] = now
        if len(self._told) > _MOST:
            self._told.popitem(last=False)

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
