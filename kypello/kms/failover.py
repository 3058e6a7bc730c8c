# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One agent over several key servers.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from kypello.errors import KMSUnavailable
from kypello.kms.connections import NotRunning
from kypello.kms.endpoints import Endpoint, Patience
from kypello.kms.handshake import NotConnected
from kypello.kms.reasons import explain
from kypello.kms.wire import repeatable, trouble_of


@implementer(IAgent)
@define(eq=False)
class FailoverAgent:
    """
    Sends each request to the first server believed up, and to the next one when that fails.

    A server fails that does not answer, or as no key server in order does.  Only what is safe
    to repeat is repeated; anything else goes elsewhere only when it cannot have arrived.  When
    all servers are put aside, they are asked regardless.

    :ivar _endpoints: In this order.
    """

    _clock: IReactorTime
    _endpoints: Sequence[Endpoint]
    _patience: Patience = field(factory=Patience)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> "Deferred[IResponse]":
        """
        Send a request.

        :param uri: Its host is replaced by that of a server.
        :param bodyProducer: Must be able to produce the body more than once.
        :return: Fires with a ``CompleteResponse``, or fails with :class:`KMSUnavailable`.
        """
        path = URI.fromBytes(uri).originForm

        def send(endpoint: Endpoint, seconds: float) -> "Deferred[IResponse]":
            return endpoint.request(method, path, headers, bodyProducer, seconds=seconds)

        return Deferred.fromCoroutine(self._request(path, send))

    async def _request(
        self, path: bytes, send: "Callable[[Endpoint, float], Deferred[IResponse]]"
    ) -> IResponse:
        call = _Call(self._clock, self._endpoints, self._patience, path, send)
        hopeful = any(not endpoint.trouble for endpoint in self._endpoints)
        response = await call.round()
        if response is None and hopeful and call.repeatable and call.left > self._patience.pause:
            # It may have been an instant: a restart, a connection.
            await deferLater(self._clock, self._patience.pause)
            response = await call.round()
        if response is None:
            raise KMSUnavailable(call.reason)
        return response


@define(eq=False)
class _Call:
    """
    One request on its way through the servers.

    :ivar _deadline: In seconds of the clock.
    :ivar _troubles: What became of it, by the URL of the server.
    """

    _clock: IReactorTime
    _endpoints: Sequence[Endpoint]
    _patience: Patience
    _path: bytes
    _send: "Callable[[Endpoint, float], Deferred[IResponse]]"
    _deadline: float = field(init=False)
    _troubles: dict[str, str] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """
        Look at the clock.
        """
        self._deadline = self._clock.seconds() + self._patience.overall

    @property
    def repeatable(self) -> bool:
        """
        Whether it may be sent again when nobody knows what became of it.
        """
        return repeatable(self._path)

    @property
    def left(self) -> float:
        """
        How much time there is, in seconds.
        """
        return self._deadline - self._clock.seconds()

    @property
    def reason(self) -> str:
        """
        What became of it, for people.
        """
        return "; ".join(f"{url}: {trouble}" for url, trouble in self._troubles.items())

    async def round(self) -> IResponse | None:
        """
        Ask one server after the other.

        :return: ``None`` when all have failed, or the time is over.
        """
        hopeful = [endpoint for endpoint in self._endpoints if not endpoint.trouble]
        asked = hopeful or self._endpoints
        for number, endpoint in enumerate(asked):
            if hopeful and endpoint.trouble:
                continue  # another request has found out
            # Each gets a share, so that the last one is asked too.
            share = self.left / (len(asked) - number)
            response = await self._attempt(endpoint, min(self._patience.attempt, share))
            if response is not None:
                return response
        return None

    async def _attempt(self, endpoint: Endpoint, seconds: float) -> IResponse | None:
        arrived = True
        try:
            response: Any = await self._send(endpoint, seconds)
        except CancelledError:
            raise  # by the caller; the server is not to blame
        except NotRunning:
            raise KMSUnavailable("the client of the key servers is not running") from None
        except TimedOut:
            trouble = f"it does not answer within {seconds:.2g} seconds"
        except Exception as error:
            trouble = explain(error)
            arrived = not isinstance(error, NotConnected)
        else:
            trouble = trouble_of(self._path, response.code, response.body)
            if not trouble:
                endpoint.works()
                answer: IResponse = response
                return answer
        endpoint.failed(trouble)
        self._troubles[endpoint.url] = trouble
        if arrived and not self.repeatable:
            raise KMSUnavailable(f"{self.reason}; whether it was done is unknown")
        return None
