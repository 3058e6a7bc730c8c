# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What became of a request, in words that a person understands.
"""

from collections.abc import Iterator

from OpenSSL import SSL
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import (
    ConnectError,
    ConnectionAborted,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TimeoutError,
)
from twisted.web.client import ResponseFailed
from twisted.web.http import PotentialDataLoss

from kypello.kms.handshake import NotConnected
from kypello.kms.responses import TooLong
from kypello.kms.verification import CertificateRefused

_OUR_CERTIFICATE = (
    "certificate required",
    "bad certificate",
    "unknown ca",
    "certificate unknown",
    "certificate expired",
    "unsupported certificate",
    "access denied",
)
_NO_TLS = ("wrong version number", "packet length too long", "unknown protocol", "http request")
_CLOSED = "it closes the connection without an answer"


def explain(error: BaseException) -> str:
    """
    Say what is wrong with a server that a request failed with; begins with ``it`` or ``its``.
    """
    causes = list(_causes(error))
    for cause in causes:
        known = _known(cause)
        if known:
            return known
    return f"the request fails ({type(causes[-1]).__name__})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    reasons = [reason.value for reason in getattr(error, "reasons", ())]
    if isinstance(error, NotConnected):
        reasons = [error.cause]
    if not reasons:
        yield error
    for reason in reasons:
        yield from _causes(reason)
    if isinstance(error, ResponseFailed) and reasons:
        yield error


def _known(error: BaseException) -> str:
    if isinstance(error, CertificateRefused):
        return error.reason
    if isinstance(error, SSL.Error):
        return _tls(error)
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    if isinstance(error, ConnectError):
        return f"it cannot be reached ({error.osError or 'no reason is known'})"
    return ""


def _tls(error: SSL.Error) -> str:
    found = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = ", ".join(str(reason) for _library, _function, reason in found)
    if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError) or "unexpected eof" in reasons:
        return _CLOSED
    if any(reason in reasons for reason in _OUR_CERTIFICATE):
        return f"it refuses our certificate ({reasons})"
    if any(reason in reasons for reason in _NO_TLS):
        return "it does not speak TLS"
    return f"TLS with it fails ({reasons or 'no reason is known'})"


_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (ConnectionRefusedError, "it refuses connections"),
    (DNSLookupError, "its host name cannot be resolved"),
    (NoRouteError, "there is no route to it"),
    ((TimeoutError, TimedOut), "it does not answer"),
    (TooLong, "its answer is too long"),
    (ConnectionAborted, "the connection was given up"),
    (ConnectionClosed, _CLOSED),
    (PotentialDataLoss, "its answer breaks off"),
    (ResponseFailed, "its answer is not HTTP"),
)
