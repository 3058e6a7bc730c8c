# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Whether the server lives, is ready and has its storage: for load balancers and orchestrators.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kypello.errors import KypelloError
from kypello.http.response import Response
from kypello.interfaces import IKMS, IStorageProbe
from kypello.model import KMSEndpoint
from kypello.objects.sharing import SharedCalls

#: How long an answer about the KMS or the storage is good for, in seconds.
FRESH = 2.0

#: When to ask again, in seconds.
_RETRY = 5

_OK = Response(200)
_NOT_OK = Response(503, (("Retry-After", str(_RETRY)),))


@define(eq=False)
class Health:
    """
    The answers to the probes.

    ``live`` is always good: a process that answers is not helped by being restarted.  ``ready``
    needs one endpoint of the KMS, if it has any.  ``cluster`` needs a storage that can be written,
    ``cluster/read`` one that can be read: a full disk, for one, can be read, and emptied.

    :ivar _kms: ``None`` when none is configured.
    :ivar _fresh: How long one answer is given again, in seconds; probes are not authenticated,
        so that they must not cost a call each.
    """

    _storage: IStorageProbe
    _kms: IKMS | None
    _clock: IReactorTime
    _fresh: float = FRESH
    _known: dict[str, tuple[float, bool]] = field(factory=dict, init=False)
    _asking: SharedCalls[str, bool] = field(factory=SharedCalls, init=False)
    endpoints: Sequence[KMSEndpoint] = field(factory=tuple, init=False)
    _log: Logger = field(factory=Logger, init=False)

    async def probe(self, word: str) -> Response | None:
        """
        Answer one probe; ``None`` when there is no such.

        :param word: ``live``, ``ready``, ``cluster`` or ``cluster/read``.
        """
        match word:
            case "live":
                return _OK
            case "ready":
                return await self._answer("kms", self._kms_online)
            case "cluster":
                return await self._answer(word, partial(self._works, self._storage.write))
            case "cluster/read":
                return await self._answer(word, partial(self._works, self._storage.read))
            case _:
                return None

    async def _answer(
        self, what: str, ask: Callable[[], Coroutine[Deferred[Any], Any, bool]]
    ) -> Response:
        asked, well = self._known.get(what, (float("-inf"), False))
        if self._clock.seconds() - asked >= self._fresh:
            well = await self._asking.run(what, ask)
            self._known[what] = (self._clock.seconds(), well)
        return _OK if well else _NOT_OK

    async def _kms_online(self) -> bool:
        if self._kms is None:
            return True
        try:
            status = await self._kms.status()
        except KypelloError as error:
            self._log.warn("the KMS does not tell its status: {error}", error=error)
            return False
        self.endpoints = status.endpoints
        return not status.endpoints or any(endpoint.online for endpoint in status.endpoints)

    async def _works(self, attempt: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        try:
            await attempt()
        except KypelloError as error:
            self._log.warn("the storage does not work: {error}", error=error)
            return False
        return True
