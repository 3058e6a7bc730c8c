# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Settings of buckets: documents that a client sets, asks for and removes.
"""

from collections.abc import Callable, Mapping

from attrs import frozen

from kypello.errors import Refused
from kypello.http.response import Response
from kypello.s3.call import MAX_DOCUMENT, Call
from kypello.s3.xml import CONTENT_TYPE


def _nothing_against(call: Call, value: bytes, settings: Mapping[str, bytes]) -> None:
    """
    A value that is right whatever else is set.
    """


def _as_kept(value: bytes) -> bytes:
    """
    A value that is shown as it is kept.
    """
    return value


@frozen
class BucketSetting:
    """
    One document that a bucket may have, and the operations on it.

    :ivar name: Of the setting, in the settings of the bucket.
    :ivar absence: The code and the message of its absence.
    :ivar read: What is kept of a document that a client sends: the document itself, or its
        canonical form.  Raises to refuse it.
    :ivar show: What a client is shown of what is kept.
    :ivar check: Called in the instant of the commit, with what is to be kept and all settings as
        they are; raises to refuse.
    :ivar status: Of the answer to who sets it.
    :ivar media_type: The header of the document.
    :ivar limit: The largest document, in bytes.
    :ivar covered: Insist that there is something to verify the document by.
    """

    name: str
    absence: tuple[str, str]
    read: Callable[[Call, bytes], bytes]
    show: Callable[[bytes], bytes] = _as_kept
    check: Callable[[Call, bytes, Mapping[str, bytes]], None] = _nothing_against
    status: int = 200
    media_type: tuple[str, str] = CONTENT_TYPE
    limit: int = MAX_DOCUMENT
    covered: bool = False

    async def put(self, call: Call) -> Response:
        """
        Set it.
        """
        await call.front.store.bucket(call.bucket)
        value = self.read(call, await call.read_document(self.limit, covered=self.covered))

        def change(settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
            """
            Set this one beside the others.
            """
            self.check(call, value, settings)
            return {**settings, self.name: value}

        await call.front.store.change_bucket(call.bucket, change)
        return Response(self.status)

    async def get(self, call: Call) -> Response:
        """
        Show it.
        """
        return Response(200, (self.media_type,), self.show(await self.value(call)))

    async def delete(self, call: Call) -> Response:
        """
        Remove it; a bucket without it stays as it is.
        """
        await replace_settings(call, {self.name: None})
        return Response(204)

    async def value(self, call: Call) -> bytes:
        """
        What is kept, as of now.

        :raises NoSuchBucket:
        :raises Refused: There is nothing.
        """
        value = (await call.front.store.bucket(call.bucket)).settings.get(self.name)
        if value is None:
            raise Refused(*self.absence)
        return value


async def replace_settings(call: Call, values: Mapping[str, bytes | None]) -> None:
    """
    Replace some settings of the bucket of a request, in one commit.

    :param values: By name; ``None`` removes one.
    :raises NoSuchBucket:
    """

    def change(settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """
        Merge them into the others.
        """
        merged = {**settings, **values}
        return {name: value for name, value in merged.items() if value is not None}

    await call.front.store.change_bucket(call.bucket, change)
