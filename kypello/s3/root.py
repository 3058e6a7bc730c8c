# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The resource that serves all of S3: every path, every method.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import unquote

from attrs import define, evolve, field
from twisted.web.resource import Resource

from kypello.auth.request import RequestHead
from kypello.errors import NoSuchBucket, NoSuchKey, NoSuchVersion, Refused
from kypello.http.head import read_head
from kypello.http.request import StreamingRequest
from kypello.http.respond import respond
from kypello.http.response import Response
from kypello.interfaces import BUCKET_POLICY
from kypello.s3.acl import check_public_list
from kypello.s3.browsers import VARY, preflight, rules_of, tell_page
from kypello.s3.call import Call, Front, settings_of
from kypello.s3.cors import CORSRule
from kypello.s3.errors import Subject, access_denied, error_response
from kypello.s3.names import check_bucket_name, check_key, invalid_uri, split_target
from kypello.s3.routes import BUCKET, OBJECT, SERVICE, Operation, find_operation
from kypello.s3.standing import standing_headers
from kypello.s3.virtualhost import bucket_of_host

#: The bucket of this name is the server itself.
RESERVED = b"minio"

_HEALTH = b"/minio/health/"

#: Parameters of this prefix choose headers of the answer, which strangers may not.
_OVERRIDES = "response-"

#: Headers that say whose a bucket, or the bucket of a source, must be.
_OWNERS = ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner")


class S3Resource(Resource):
    """
    Buckets and objects, and the health of the server beside them.

    It takes the bucket and the key from the path as sent, or the bucket from the host: slashes,
    dots and escapes of keys mean nothing here.
    """

    isLeaf = True

    def __init__(self, front: Front, health: Callable[[str], Awaitable[Response | None]]) -> None:
        """
        Serve *front*.

        :param health: Answers what follows ``/minio/health/``; ``None`` for what it does not
            know.
        """
        Resource.__init__(self)
        self._front = front
        self._health = health

    def render(self, request: StreamingRequest) -> int:
        """
        Called by Twisted.
        """
        domains = self._front.domains
        host = dict(request.head.headers).get("host", "") if domains else ""
        head = read_head(request, bucket_of_host(host, domains))
        exchange = _Exchange(self._front, self._health, request, head)
        return respond(request, exchange.answer(), exchange.word)


@define(eq=False)
class _Exchange:
    """
    One request on its way to an answer.
    """

    _front: Front
    _health: Callable[[str], Awaitable[Response | None]]
    _request: StreamingRequest
    _head: RequestHead
    _bucket: bytes = b""
    _key: bytes = b""
    _standing: tuple[tuple[str, str], ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Know what every answer says.
        """
        self._standing = standing_headers(
            self._request.request_id, self._front.host_id, secure=self._head.secure
        )

    async def answer(self) -> Response:
        """
        Find out what is wanted, and by whom, and do it.
        """
        path, host_bucket, head = self._request.path, self._head.host_bucket, self._head
        if path.startswith(_HEALTH) and not host_bucket:
            self._say(tell_page(head, rules_of({}, self._front.cors_origins)))
            return self._finished(await self._tell_health(path.removeprefix(_HEALTH)))
        await self._wait()
        self._bucket, self._key = split_target(self._request.uri, host_bucket.encode("latin-1"))
        if self._bucket == RESERVED:
            raise Refused("AllAccessDisabled", "All access to this resource has been disabled.")
        if head.method == "OPTIONS":
            self._request.operation = "Preflight"
            self._say(preflight(head, await self._rules()))
            return self._finished(Response(200))
        if head.header("origin") is not None:
            self._say(tell_page(head, await self._rules()))
        operation = self._find_operation(head)
        self._request.operation = operation.name
        operation, call = await self._admit(operation)
        self._request.operation = operation.name
        try:
            return self._finished(await operation.perform(call))
        except (NoSuchKey, NoSuchVersion) as error:
            # That there is no such object is for those who may list what there is.
            if not await call.may("s3:ListBucket", error.bucket):
                raise access_denied() from error
            raise

    def word(self, error: Exception) -> Response:
        """
        Tell what went wrong.
        """
        host_bucket = self._head.host_bucket
        subject = Subject(
            (host_bucket and f"/{host_bucket}") + unquote(self._request.path),
            self._bucket.decode("utf-8", "replace"),
            self._key.decode("utf-8", "replace"),
        )
        return self._finished(
            error_response(
                error,
                subject,
                self._request.request_id,
                self._front.host_id,
                bodiless=self._head.method == "HEAD",
            )
        )

    async def _wait(self) -> None:
        """
        Wait while an administrator lets nothing in.

        :raises Refused: ``ServiceUnavailable``: this process ends instead.
        """
        brake = self._front.brake
        if brake is not None and brake.pulled and not await brake.released():
            raise Refused("ServiceUnavailable", "The server is frozen. Please try again.")

    async def _rules(self) -> Sequence[CORSRule]:
        """
        What pages from elsewhere may do here.
        """
        settings = None
        # What is wrong with a name, whoever sent it is told later.
        with suppress(Refused):
            bucket, _key = self._names()
            settings = await settings_of(self._front.store, bucket) if bucket else None
        return rules_of(settings or {}, self._front.cors_origins)

    def _say(self, words: Sequence[tuple[str, str]]) -> None:
        """
        Have every answer to this request, an error as well, say what a rule allows.
        """
        if words:
            varying = tuple(pair for pair in self._standing if pair[0] != "Vary")
            self._standing = (*varying, VARY, *words)

    async def _tell_health(self, word: bytes) -> Response:
        self._request.operation = "Health"
        if self._head.method not in ("GET", "HEAD"):
            raise Refused("BadRequest", "Health is asked for with GET or HEAD.")
        response = await self._health(word.decode("latin-1"))
        if response is None:
            raise access_denied()
        return response

    def _find_operation(self, head: RequestHead) -> Operation:
        level = SERVICE if not self._bucket else OBJECT if self._key else BUCKET
        return find_operation(level, head)

    async def _admit(self, operation: Operation) -> tuple[Operation, Call]:
        """
        See who sent the request, and whether it may be done.

        :return: The operation as the signed part of the request has it.
        """
        authenticated = await self._front.authenticator.authenticate(self._head)
        counts = authenticated.head
        if counts is not self._head:
            operation = self._signed_operation(operation, counts)
        bucket, key = self._names()
        self._check_owner(counts)
        identity, request = authenticated.identity, self._request
        settings = await settings_of(self._front.store, bucket) if bucket else None
        if settings is not None:
            request.operation = operation.name
            request.subject = bucket
        call = Call(
            self._front,
            authenticated,
            bucket,
            key,
            request.request_id,
            settings or {},
            request.body,
        )
        if not await self._allowed(operation, call):
            if bucket and settings is None and operation.name != "CreateBucket":
                raise NoSuchBucket(bucket)
            raise access_denied()
        check_public_list(call.settings, counts.header("x-amz-acl"), counts)
        if identity is None and any(name.startswith(_OVERRIDES) for name, _value in counts.query):
            raise Refused(
                "InvalidRequest",
                "Request specific response headers cannot be used for anonymous GET requests.",
            )
        return operation, call

    def _signed_operation(self, asked: Operation, counts: RequestHead) -> Operation:
        """
        The operation of what counts of the request.

        Settings in a signed query count as headers, and may make it another one than at first
        sight; what is not signed may not.
        """
        counted = set(counts.headers)
        headers = tuple(pair for pair in self._head.headers if pair in counted)
        if self._find_operation(evolve(counts, headers=headers)) is not asked:
            raise Refused(
                "AccessDenied",
                "There were parameters present in the request which were not signed",
            )
        return self._find_operation(counts)

    def _names(self) -> tuple[str, str]:
        """
        Read the names and the query, now that they are known to be what the client signed.
        """
        try:
            bucket, key = self._bucket.decode(), self._key.decode()
            for pair in self._head.query:
                for text in pair:
                    text.encode()
        except UnicodeError:
            raise invalid_uri() from None
        if bucket:
            check_bucket_name(bucket)
        check_key(key)
        return bucket, key

    def _check_owner(self, head: RequestHead) -> None:
        """
        See that buckets are whose the client takes them for, if that is configured.
        """
        account_id = self._front.account_id
        if account_id is None:
            return
        for name in _OWNERS:
            if head.header(name) not in (None, account_id):
                raise access_denied()

    async def _allowed(self, operation: Operation, call: Call) -> bool:
        if operation.form:
            # Who sent it is in the body, which nobody has read.
            return True
        action = "" if operation.asks else operation.action_for(call.head)
        if not action:
            # Strangers get nothing but what a bucket gives to everybody.
            return call.authenticated.identity is not None or BUCKET_POLICY in call.settings
        return await call.may(action)

    def _finished(self, response: Response) -> Response:
        headers = [*self._standing, *response.headers]
        if self._head.method == "HEAD" and self._bucket and not self._key:
            headers.append(("x-amz-bucket-region", self._front.shown_region))
        return Response(response.status, headers, response.body)
