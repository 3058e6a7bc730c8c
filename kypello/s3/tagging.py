# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The tags of objects: in headers, in documents, and what a tag may be.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element

from attrs import evolve

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.http.response import Response
from kypello.model import ObjectInfo, ObjectMetadata
from kypello.s3.call import Call
from kypello.s3.encryption import read_customer_key
from kypello.s3.errors import invalid_argument
from kypello.s3.versions import read_version, version_headers
from kypello.s3.xml import (
    CONTENT_TYPE,
    child_texts,
    children,
    document,
    escape,
    malformed,
    read_document,
)

#: How many tags an object may have, and how many characters their keys and values.
MAX_TAGS = 10
_MAX_KEY = 128
_MAX_VALUE = 256

_HEADER = "x-amz-tagging"
_COUNT = "x-amz-tagging-count"
_RESERVED = "aws:"
_SIGNS = frozenset("_.:/=+-@")
_TAG = frozenset({"Key", "Value"})


async def get_object_tagging(call: Call) -> Response:
    """
    Tell the tags of an object.
    """
    info = await _tagged(call)
    headers = [CONTENT_TYPE, *version_headers(call.settings, info.version_id)]
    return Response(200, headers, tagging_document(info.metadata.tags))


async def put_object_tagging(call: Call) -> Response:
    """
    Replace the tags of an object.
    """
    version_id = await call.check(partial(read_version, call.head))
    await call.front.store.bucket(call.bucket)
    tags = read_tagging_document(await call.read_document())
    return Response(200, await _replace(call, version_id, tags, "PutTagging"))


async def delete_object_tagging(call: Call) -> Response:
    """
    Remove the tags of an object.
    """
    version_id = await call.check(partial(read_version, call.head))
    return Response(204, await _replace(call, version_id, {}, "DeleteTagging"))


async def _replace(
    call: Call, version_id: str, tags: Mapping[str, str], kind: str
) -> list[tuple[str, str]]:
    """
    Replace the tags of a version.

    :param kind: How the event ends that tells it.
    :return: The headers that tell which it was.
    """

    def change(info: ObjectInfo) -> ObjectMetadata:
        """
        Leave all else as it is.
        """
        return evolve(info.metadata, tags=tags)

    info = await call.front.store.change_version(call.bucket, call.key, version_id, change)
    await call.announce(f"s3:ObjectCreated:{kind}", info)
    return list(version_headers(call.settings, info.version_id))


async def _tagged(call: Call) -> ObjectInfo:
    loopback = call.front.allow_insecure_customer_keys
    key, version_id = await call.check(
        lambda: (read_customer_key(call.head, loopback=loopback), read_version(call.head))
    )
    store = call.front.store
    try:
        return await store.head(call.bucket, call.key, key, version_id)
    except Refused:
        if key is not None:
            raise
    # Tags are told without the key that its client keeps, as is whatever a change sees.
    return await store.change_version(call.bucket, call.key, version_id, lambda info: info.metadata)


def read_tagging_header(head: RequestHead) -> Mapping[str, str]:
    """
    The tags that a request gives a new object; empty when it gives none.

    :raises Refused: ``InvalidArgument``, ``InvalidTag`` or ``BadRequest``.
    """
    stated = head.header(_HEADER)
    if not stated:
        return {}
    try:
        pairs = parse_qsl(
            stated.encode("latin-1").decode(), keep_blank_values=True, errors="strict"
        )
    except ValueError:
        # Not UTF-8, escaped or not.
        raise _unreadable(stated) from None
    if len(dict(pairs)) < len(pairs):
        raise _unreadable(stated)
    return check_tags(pairs)


def read_tagging_document(
    body: bytes, most: int = MAX_TAGS, kind: str = "Object"
) -> Mapping[str, str]:
    """
    The tags in a document; as :func:`read_tag_set`.
    """
    sets = list(children(read_document(body, "Tagging"), frozenset({"TagSet"})))
    if len(sets) != 1:
        raise malformed()
    return read_tag_set(sets[0], most, kind)


def read_tag_set(tag_set: Element, most: int, kind: str) -> Mapping[str, str]:
    """
    The tags in an element; as :func:`check_tags`.

    :raises Refused: ``MalformedXML``, ``InvalidTag`` or ``BadRequest``.
    """
    tags = [_read_tag(child_texts(tag, _TAG)) for tag in children(tag_set, frozenset({"Tag"}))]
    return check_tags(tags, most, kind)


def tagging_document(tags: Mapping[str, str]) -> bytes:
    """
    The document that shows tags, sorted by their keys.
    """
    shown = "".join(
        f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>"
        for key, value in sorted(tags.items())
    )
    return document("Tagging", f"<TagSet>{shown}</TagSet>")


def tagging_headers(metadata: ObjectMetadata) -> Iterator[tuple[str, str]]:
    """
    What a read tells about the tags of an object: how many there are, if any.
    """
    if metadata.tags:
        yield _COUNT, str(len(metadata.tags))


def check_tags(
    pairs: Iterable[tuple[str, str]], most: int = MAX_TAGS, kind: str = "Object"
) -> Mapping[str, str]:
    """
    See that something may have these tags.

    :param pairs: Keys and values.
    :param most: How many it may have.
    :param kind: What it is, for people.
    :raises Refused: ``InvalidTag``, or ``BadRequest`` when there are too many.
    """
    tags: dict[str, str] = {}
    for key, value in pairs:
        if not 1 <= len(key) <= _MAX_KEY or not _is_legal(key):
            raise _invalid("The TagKey you have provided is invalid", key, value)
        if len(value) > _MAX_VALUE or not _is_legal(value):
            raise _invalid("The TagValue you have provided is invalid", key, value)
        if key.lower().startswith(_RESERVED):
            raise _invalid("System tags cannot be added/updated by requester", key, value)
        if key in tags:
            raise _invalid("Cannot provide multiple Tags with the same key", key, value)
        tags[key] = value
    if len(tags) > most:
        raise Refused("BadRequest", f"{kind} tags cannot be greater than {most}")
    return tags


def _read_tag(texts: Mapping[str, str]) -> tuple[str, str]:
    if texts.keys() != _TAG:
        raise malformed()
    return texts["Key"], texts["Value"]


def _is_legal(text: str) -> bool:
    # Letters, digits and blanks of any script.
    return all(
        character in _SIGNS or unicodedata.category(character)[0] in "LNZ" for character in text
    )


def _unreadable(stated: str) -> Refused:
    return invalid_argument(
        _HEADER,
        stated,
        f"The header '{_HEADER}' shall be encoded as UTF-8 then URLEncoded URL query parameters"
        " without tag name duplicates.",
    )


def _invalid(message: str, key: str, value: str) -> Refused:
    return Refused("InvalidTag", message, {"TagKey": key, "TagValue": value})
