# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Listings of objects, in two forms.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TypeAlias

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.http.response import Response
from kypello.model import Listing, ListQuery, ObjectInfo
from kypello.s3.call import Call
from kypello.s3.dates import xml_date
from kypello.s3.extensions import metadata_elements, wants_metadata
from kypello.s3.owner import OWNER
from kypello.s3.paging import name_writer, read_limit
from kypello.s3.tokens import read_token, write_token
from kypello.s3.xml import CONTENT_TYPE, document, escape
from kypello.s3.zipped import leads_inside, list_inside

#: Makes a name the content of an element.
Write: TypeAlias = Callable[[str], str]


@frozen
class Page:
    """
    What listings of objects, and of versions, have in common.

    :ivar query: Starts at the prefix; each form says where it goes on.
    :ivar write: Makes a name the content of an element, as the client asked.
    :ivar encoding: The element that tells how.
    """

    bucket: str
    query: ListQuery
    write: Write
    encoding: str

    def head(self, *, more: bool) -> str:
        """
        The elements before the entries.

        :param more: Whether other pages follow.
        """
        query, write = self.query, self.write
        delimiter = query.delimiter and f"<Delimiter>{write(query.delimiter)}</Delimiter>"
        truncated = "true" if more else "false"
        return (
            f"<Name>{self.bucket}</Name><Prefix>{write(query.prefix)}</Prefix>"
            f"<MaxKeys>{query.limit}</MaxKeys>{delimiter}<IsTruncated>{truncated}</IsTruncated>"
            f"{self.encoding}"
        )

    def groups(self, prefixes: Iterable[str]) -> str:
        """
        The groups.
        """
        write = self.write
        return "".join(
            [
                f"<CommonPrefixes><Prefix>{write(prefix)}</Prefix></CommonPrefixes>"
                for prefix in prefixes
            ]
        )


async def list_objects(call: Call) -> Response:
    """
    List objects, in the second form if the request says so.
    """
    if call.head.parameter("list-type") == "2":
        return await _list_second(call)
    marker = call.head.parameter("marker") or ""
    page, listing = await _list(call, lambda: marker)
    write = page.write
    following = ""
    if listing.next is not None and page.query.delimiter:
        following = f"<NextMarker>{write(listing.next)}</NextMarker>"
    return answer(
        "ListBucketResult",
        page.head(more=listing.next is not None),
        f"<Marker>{write(marker)}</Marker>",
        following,
        _contents(listing, write, OWNER, [""] * len(listing.objects)),
        page.groups(listing.prefixes),
    )


async def _list_second(call: Call) -> Response:
    head = call.head
    token, start_after = head.parameter("continuation-token"), head.parameter("start-after")
    page, listing = await _list(call, lambda: read_token(token) if token else start_after or "")
    parts = [
        page.head(more=listing.next is not None),
        f"<KeyCount>{len(listing.objects) + len(listing.prefixes)}</KeyCount>",
    ]
    if start_after is not None:
        parts.append(f"<StartAfter>{page.write(start_after)}</StartAfter>")
    if token is not None:
        parts.append(f"<ContinuationToken>{escape(token)}</ContinuationToken>")
    if listing.next is not None:
        following = write_token(listing.next)
        parts.append(f"<NextContinuationToken>{following}</NextContinuationToken>")
    owner = OWNER if (head.parameter("fetch-owner") or "").lower() == "true" else ""
    more = await metadata_elements(call, listing.objects)
    parts.append(_contents(listing, page.write, owner, more))
    return answer("ListBucketResult", *parts, page.groups(listing.prefixes))


async def _list(call: Call, start_after: Callable[[], str]) -> tuple[Page, Listing]:
    """
    List what the request wants.

    :param start_after: Reads where to begin; raises :class:`kypello.errors.Refused`.
    """
    page = await call.check(lambda: read_page(call.bucket, call.head, start_after()))
    if leads_inside(call.head, page.query.prefix):
        return page, await list_inside(call, page.query)
    return page, await call.front.store.list(call.bucket, page.query)


def read_page(bucket: str, head: RequestHead, start_after: str) -> Page:
    """
    What a request wants.

    :raises Refused: ``InvalidArgument``.
    """
    write, encoding = name_writer(head)
    query = ListQuery(
        head.parameter("prefix") or "",
        head.parameter("delimiter") or "",
        start_after,
        read_limit(head, "max-keys"),
        not wants_metadata(head),
    )
    return Page(bucket, query, write, encoding)


def _contents(listing: Listing, write: Write, owner: str, more: Sequence[str]) -> str:
    return "".join(
        [
            f"<Contents>{entry(info, write)}{owner}{shown}</Contents>"
            for info, shown in zip(listing.objects, more, strict=True)
        ]
    )


def entry(info: ObjectInfo, write: Write) -> str:
    """
    The elements that tell an object.
    """
    metadata = info.metadata
    checksums = ""
    if metadata.checksums:
        checksums = _checksums(metadata.checksum_type, *metadata.checksums)
    return (
        f"<Key>{write(info.key)}</Key><LastModified>{xml_date(info.modified)}</LastModified>"
        f"<ETag>&#34;{metadata.etag}&#34;</ETag><Size>{info.size}</Size>{checksums}"
        f"<StorageClass>{metadata.storage_class}</StorageClass>"
    )


@lru_cache(maxsize=64)
def _checksums(kind: str, *names: str) -> str:
    algorithms = [f"<ChecksumAlgorithm>{name.upper()}</ChecksumAlgorithm>" for name in names]
    return f"{''.join(algorithms)}<ChecksumType>{kind}</ChecksumType>"


def answer(root: str, *parts: str) -> Response:
    """
    The answer with a page.
    """
    return Response(200, (CONTENT_TYPE,), document(root, "".join(parts)))
