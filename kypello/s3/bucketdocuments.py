# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Requests about documents of buckets that come from within the server, in somebody's name.
"""

from base64 import b64encode
from hashlib import md5

from attrs import define, evolve

from kypello.auth.mode import PayloadMode
from kypello.auth.request import RequestHead
from kypello.auth.sigv4 import ALGORITHM
from kypello.buffersource import BufferSource
from kypello.errors import KypelloError, Refused
from kypello.events.rules import SETTING as NOTIFICATION
from kypello.http.response import Response
from kypello.iam.authenticate import Authenticated
from kypello.model import Identity
from kypello.s3.call import Call, Front, settings_of
from kypello.s3.errors import access_denied, status_of, translate
from kypello.s3.names import check_bucket_name
from kypello.s3.routes import BUCKET, find_operation
from kypello.versioning import SETTING as VERSIONING

# Documents that S3 shows, empty, when they were never set.
_SHOWN_EMPTY = {"versioning": VERSIONING, "notification": NOTIFICATION}

# Headers that are about the request they came with: its content, and what signs it.
_OWN = ("authorization", "content-", "x-amz-", "if-", "expect", "transfer-encoding")


@define(eq=False)
class BucketDocuments:
    """
    Has the operations of S3 performed.
    """

    _front: Front

    async def make(self, identity: Identity, head: RequestHead, bucket: str) -> None:
        """
        Make a bucket, unless it is there.
        """
        check_bucket_name(bucket)
        if await settings_of(self._front.store, bucket) is None:
            await self._ask(identity, head, "PUT", bucket, "")

    async def read(
        self, identity: Identity, head: RequestHead, bucket: str, name: str
    ) -> bytes | None:
        """
        A document; ``None`` when there is none.
        """
        shown_empty = _SHOWN_EMPTY.get(name)
        if shown_empty is not None:
            settings = await settings_of(self._front.store, bucket)
            if settings is not None and shown_empty not in settings:
                return None
        try:
            response = await self._ask(identity, head, "GET", bucket, name)
        except Refused as error:
            if status_of(error) == 404 and error.code != "NoSuchBucket":
                return None
            raise
        assert isinstance(response.body, bytes)
        return response.body

    async def write(
        self, identity: Identity, head: RequestHead, bucket: str, name: str, content: bytes
    ) -> None:
        """
        Set a document.
        """
        await self._ask(identity, head, "PUT", bucket, name, content)

    async def _ask(
        self,
        identity: Identity,
        head: RequestHead,
        method: str,
        bucket: str,
        name: str,
        content: bytes = b"",
    ) -> Response:
        digest = b64encode(md5(content, usedforsecurity=False).digest()).decode()
        asked = evolve(
            head,
            method=method,
            path=f"/{bucket}",
            query=((name, ""),) if name else (),
            headers=(
                *(pair for pair in head.headers if not pair[0].startswith(_OWN)),
                ("content-md5", digest),
            ),
            host_bucket="",
        )
        try:
            operation = find_operation(BUCKET, asked)
            call = Call(
                self._front,
                Authenticated(identity, asked, PayloadMode(), ALGORITHM, "REST-HEADER"),
                bucket,
                "",
                "",
                await settings_of(self._front.store, bucket) or {},
                BufferSource(content),
            )
            # Who may do nothing of it by name is asked by the operation itself.
            if operation.action and not await call.may(operation.action):
                raise access_denied()
            return await operation.perform(call)
        except KypelloError as error:
            raise translate(error, "", asked.path) from error
