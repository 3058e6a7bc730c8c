# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What needs which master key, counted while the client waits.
"""

from collections.abc import AsyncIterator

from attrs import define, field
from zope.interface import implementer

from kypello.admin.call import Call
from kypello.admin.errors import Rejected, not_offered
from kypello.admin.wire import json_bytes
from kypello.http.response import Response
from kypello.interfaces import IBodySource
from kypello.objects.keyusage import KeyUsage, KeyUse, Progress, Walk, tell

_TYPE = (("Content-Type", "application/x-ndjson"),)

#: Of so many pages one is told as progress.
_TOLD = 16


async def usage(call: Call) -> Response:
    """
    Count what needs each master key: lines of JSON, ``progress`` first, then ``key`` for each, and
    ``end``, without which the count is not complete.
    """
    walk = _usage(call).walk()
    return Response(200, _TYPE, CountingSource(walk, call.parameter("key-id")))


async def delete_key(call: Call) -> Response:
    """
    Refuse to delete a master key, and tell what needs it; keys are deleted at the key server.
    """
    name = call.named("key-id")
    await call.require("kms:DeleteKey", resource=name)
    use = await _usage(call).of(name)
    if use.needed or use.named:
        raise Rejected(409, "XMinioKMSKeyInUse", _words(use))
    raise not_offered(f"Nothing here needs the key {name!r}; delete it at the key server.")


@implementer(IBodySource)
@define(eq=False)
class CountingSource:
    """
    The lines of a count, which goes on as they are read, and ends with their reader.

    :ivar _only: The name of the one key that is asked for; empty for all.
    """

    _walk: Walk
    _only: str
    size: None = None
    _pages: AsyncIterator[Progress] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Begin to count with the first reading.
        """
        self._pages = self._walk.pages()

    async def read(self) -> bytes:
        """
        Count a few pages on.
        """
        if self._pages is None:
            return b""
        count = 0
        async for progress in self._pages:
            count += 1
            if count == _TOLD:
                return _line("progress", _progress(progress))
        self._pages = None
        found = self._walk.found
        if self._only:
            found = {self._only: found.get(self._only) or KeyUse(self._only)}
        told = tell([use for _, use in sorted(found.items())])
        return b"".join([*(_line("key", one) for one in told), _line("end", len(told))])

    def close(self) -> None:
        """
        Count no more.
        """
        self._pages = None


def _usage(call: Call) -> KeyUsage:
    if call.front.key_usage is None:
        raise not_offered("This server does not count what needs its master keys.")
    return call.front.key_usage


def _progress(progress: Progress) -> dict[str, object]:
    return {
        "bucket": progress.bucket,
        "buckets": progress.buckets,
        "done": progress.done,
        "versions": progress.versions,
    }


def _words(use: KeyUse) -> str:
    words = f"The key {use.name!r} is in use: {use} need it"
    if use.default:
        words += ", and it is the default key of the server"
    defaults = use.total("default")
    if defaults:
        words += f", and {defaults} buckets encrypt with it by default"
    return f"{words}."


def _line(name: str, value: object) -> bytes:
    return json_bytes({name: value}) + b"\n"
