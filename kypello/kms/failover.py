# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One agent over several key servers.
"""

import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.client import URI
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from kypello.errors import Damaged, KMSUnavailable, StorageFailed
from kypello.kms.connections import NotRunning
from kypello.kms.endpoints import Endpoint, Patience
from kypello.kms.handshake import NotConnected
from kypello.kms.proofs import REFUSALS
from kypello.kms.reasons import explain
from kypello.kms.wire import key_of, makes_key, repeatable, told, trouble_of

#: The status of who is asked too often.
TOO_MANY = 429

#: Raises when a server must not get a request, or its answer not be used: gets the path of the
#: request, and after what time the server must have proved to hold the key.
Admit: TypeAlias = Callable[[Endpoint, bytes, float], Coroutine[Any, Any, None]]


@implementer(IAgent)
@define(eq=False)
class FailoverAgent:
    """
    Sends each request to the first server believed up that is not slow, and to the next one when
    that fails.

    A server fails that does not answer, or as no key server in order does.  Only what is safe
    to repeat is repeated; anything else goes elsewhere only when it cannot have arrived.
    Servers that are put aside are asked, too, when all others have failed, but not for long.

    :ivar _endpoints: In this order.
    :ivar _admit: Asked before each request, and after it, since the server may have changed
        between; a server that has made a data key, or refuses one, has to prove again that it
        holds the master key.  If it does not, the next one is asked.
    """

    _clock: IReactorTime
    _endpoints: Sequence[Endpoint]
    _patience: Patience = field(factory=Patience)
    _admit: Admit | None = None

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
        :return: Fires with a ``CompleteResponse``, or fails with :class:`KMSUnavailable`, or
            with what all servers were refused for.
        """
        path = URI.fromBytes(uri).originForm

        async def send(endpoint: Endpoint, seconds: float) -> Any:
            if self._admit is not None and not makes_key(path):
                await self._admit(endpoint, path, -math.inf)
            response: Any = await endpoint.request(
                method, path, headers, bodyProducer, seconds=seconds
            )
            if self._admit is not None:
                if 400 <= response.code < 500 and response.code != TOO_MANY:
                    endpoint.proved.pop(key_of(path), None)
                # What another key has sealed could not be opened, so the proof has to be later.
                made = self._clock.seconds() if makes_key(path) else -math.inf
                await self._admit(endpoint, path, made)
            return response

        return Deferred.fromCoroutine(self._request(path, send))

    async def _request(self, path: bytes, send: "_Send") -> IResponse:
        for endpoint in self._endpoints:
            endpoint.heed()
        call = _Call(self._clock, self._endpoints, self._patience, path, send)
        hopeful = any(not endpoint.trouble for endpoint in self._endpoints)
        response = await call.round()
        if response is None and hopeful and call.short:
            # It may have been an instant: a restart, a connection.
            await deferLater(self._clock, self._patience.pause)
            response = await call.round()
        if response is None:
            raise call.error()
        return response


_Send: TypeAlias = Callable[[Endpoint, float], Coroutine[Any, Any, Any]]


@define(eq=False)
class _Call:
    """
    One request on its way through the servers.

    :ivar _deadline: In seconds of the clock.
    :ivar _troubles: What became of it, by the URL of the server.
    :ivar _refusals: What servers were refused for, by URL too.
    :ivar _waited: Whether a server took too long.
    """

    _clock: IReactorTime
    _endpoints: Sequence[Endpoint]
    _patience: Patience
    _path: bytes
    _send: _Send
    _deadline: float = field(init=False)
    _troubles: dict[str, str] = field(init=False, factory=dict)
    _refusals: dict[str, Exception] = field(init=False, factory=dict)
    _waited: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """
        Look at the clock.
        """
        self._deadline = self._clock.seconds() + self._patience.overall

    @property
    def short(self) -> bool:
        """
        Whether it failed so fast that it may be sent again.
        """
        return (
            repeatable(self._path)
            and not self._waited
            and not self._refusals
            and self._left > self._patience.pause
        )

    def error(self) -> Exception:
        """
        What to say when all has failed.
        """
        if self._refusals and self._refusals.keys() == self._troubles.keys():
            return next(iter(self._refusals.values()))
        return KMSUnavailable(self._reason)

    async def round(self) -> IResponse | None:
        """
        Ask one server after the other.

        :return: ``None`` when all have failed, or the time is over.
        """
        waiting = list(self._endpoints)
        while waiting and self._left > 0:
            # What is believed may change while this waits.
            endpoint = min(waiting, key=lambda one: (bool(one.trouble), one.slow))
            # Each gets a share, so that the last one is asked too.
            seconds = min(self._patience.attempt, self._left / len(waiting))
            if endpoint.trouble:
                # Probes tell when it is back; who asks meanwhile shall not wait for silence.
                patience = self._patience
                seconds = min(seconds, patience.slow, patience.attempt / len(self._endpoints))
            waiting.remove(endpoint)
            response = await self._attempt(endpoint, seconds)
            if response is not None:
                return response
        return None

    async def _attempt(self, endpoint: Endpoint, seconds: float) -> IResponse | None:
        arrived, began = True, self._clock.seconds()
        sending = Deferred.fromCoroutine(self._send(endpoint, seconds))
        try:
            response: Any = await sending.addTimeout(seconds, self._clock)
        except CancelledError:
            raise  # by the caller; the server is not to blame
        except NotRunning:
            raise KMSUnavailable("the client of the key servers is not running") from None
        except REFUSALS as error:
            self._refusals[endpoint.url] = error
            self._troubles[endpoint.url] = "; ".join(endpoint.refused.values())
            return None
        except TimedOut:
            self._waited = True
            trouble = f"it does not answer within {seconds:.2g} seconds"
        except KMSUnavailable as error:
            # That of the proof, which has put the server aside.
            trouble = endpoint.trouble or error.reason
        except (StorageFailed, Damaged):
            raise  # what was sealed before is not at hand
        except Exception as error:
            trouble = explain(error)
            arrived = not isinstance(error, NotConnected)
        else:
            trouble = trouble_of(self._path, response.code, response.body)
            if not trouble:
                endpoint.works(self._clock.seconds() - began)
                if response.code == TOO_MANY:
                    # It is well, and has not done it; another one may.
                    answered = told(response.code, response.body)
                    self._troubles[endpoint.url] = f"it answers {answered}"
                    return None
                answer: IResponse = response
                return answer
        endpoint.failed(trouble)
        self._troubles[endpoint.url] = trouble
        if arrived and not repeatable(self._path):
            raise KMSUnavailable(f"{self._reason}; whether it was done is unknown")
        return None

    @property
    def _left(self) -> float:
        return self._deadline - self._clock.seconds()

    @property
    def _reason(self) -> str:
        return "; ".join(f"{url}: {trouble}" for url, trouble in self._troubles.items())
