# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Listings of objects: the two forms of it, and that of versions.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from attrs import frozen

from kypello.auth.request import RequestHead
from kypello.http.response import Response
from kypello.model import Listing, ListQuery, ObjectInfo
from kypello.s3.call import Call
from kypello.s3.dates import xml_date
from kypello.s3.errors import invalid_argument
from kypello.s3.extensions import metadata_elements
from kypello.s3.owner import OWNER
from kypello.s3.paging import name_writer, read_limit
from kypello.s3.tokens import read_token, write_token
from kypello.s3.xml import CONTENT_TYPE, document, escape

_Write: TypeAlias = Callable[[str], str]


@frozen
class _Page:
    """
    What all forms of listings have in common.

    :ivar query: Starts at the prefix; each form says where it goes on.
    :ivar write: Makes a name the content of an element, as the client asked.
    :ivar encoding: The element that tells how.
    """

    bucket: str
    query: ListQuery
    write: _Write
    encoding: str

    def head(self, listing: Listing) -> str:
        """
        The elements before the entries.
        """
        query, write = self.query, self.write
        delimiter = query.delimiter and f"<Delimiter>{write(query.delimiter)}</Delimiter>"
        truncated = "true" if listing.next is not None else "false"
        return (
            f"<Name>{self.bucket}</Name><Prefix>{write(query.prefix)}</Prefix>"
            f"<MaxKeys>{query.limit}</MaxKeys>{delimiter}<IsTruncated>{truncated}</IsTruncated>"
            f"{self.encoding}"
        )

    def groups(self, listing: Listing) -> str:
        """
        The groups.
        """
        write = self.write
        return "".join(
            [
                f"<CommonPrefixes><Prefix>{write(prefix)}</Prefix></CommonPrefixes>"
                for prefix in listing.prefixes
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
    return _answer(
        "ListBucketResult",
        page.head(listing),
        f"<Marker>{write(marker)}</Marker>",
        following,
        _contents(listing, write, OWNER, [""] * len(listing.objects)),
        page.groups(listing),
    )


async def _list_second(call: Call) -> Response:
    head = call.head
    token, start_after = head.parameter("continuation-token"), head.parameter("start-after")
    page, listing = await _list(call, lambda: read_token(token) if token else start_after or "")
    parts = [
        page.head(listing),
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
    return _answer("ListBucketResult", *parts, page.groups(listing))


async def list_versions(call: Call) -> Response:
    """
    List versions: every object has one, that of a bucket without versioning.
    """
    marker = call.head.parameter("key-marker") or ""
    version_marker = call.head.parameter("version-id-marker") or ""

    def start_after() -> str:
        if version_marker and not marker:
            raise invalid_argument(
                "version-id-marker",
                version_marker,
                "A version-id marker cannot be specified without a key marker.",
            )
        return marker

    page, listing = await _list(call, start_after)
    write = page.write
    following = ""
    if listing.next is not None:
        following = f"<NextKeyMarker>{write(listing.next)}</NextKeyMarker>"
        if listing.next not in listing.prefixes:
            following += "<NextVersionIdMarker>null</NextVersionIdMarker>"
    more = await metadata_elements(call, listing.objects)
    versions = "".join(
        f"<Version><VersionId>null</VersionId><IsLatest>true</IsLatest>"
        f"{_entry(info, write)}{OWNER}{shown}</Version>"
        for info, shown in zip(listing.objects, more, strict=True)
    )
    return _answer(
        "ListVersionsResult",
        page.head(listing),
        f"<KeyMarker>{write(marker)}</KeyMarker>",
        f"<VersionIdMarker>{escape(version_marker)}</VersionIdMarker>",
        following,
        versions,
        page.groups(listing),
    )


async def _list(call: Call, start_after: Callable[[], str]) -> tuple[_Page, Listing]:
    """
    List what the request wants.

    :param start_after: Reads where to begin; raises :class:`kypello.errors.Refused`.
    """
    page = await call.check(lambda: _read_page(call.bucket, call.head, start_after()))
    return page, await call.front.store.list(call.bucket, page.query)


def _read_page(bucket: str, head: RequestHead, start_after: str) -> _Page:
    write, encoding = name_writer(head)
    query = ListQuery(
        head.parameter("prefix") or "",
        head.parameter("delimiter") or "",
        start_after,
        read_limit(head, "max-keys"),
    )
    return _Page(bucket, query, write, encoding)


def _contents(listing: Listing, write: _Write, owner: str, more: Sequence[str]) -> str:
    return "".join(
        [
            f"<Contents>{_entry(info, write)}{owner}{shown}</Contents>"
            for info, shown in zip(listing.objects, more, strict=True)
        ]
    )


def _entry(info: ObjectInfo, write: _Write) -> str:
    metadata = info.metadata
    checksums = ""
    if metadata.checksums:
        checksums = "".join(
            f"<ChecksumAlgorithm>{name.upper()}</ChecksumAlgorithm>" for name in metadata.checksums
        )
        checksums += f"<ChecksumType>{metadata.checksum_type}</ChecksumType>"
    return (
        f"<Key>{write(info.key)}</Key><LastModified>{xml_date(info.modified)}</LastModified>"
        f"<ETag>&#34;{metadata.etag}&#34;</ETag><Size>{info.size}</Size>{checksums}"
        f"<StorageClass>{metadata.storage_class}</StorageClass>"
    )


def _answer(root: str, *parts: str) -> Response:
    return Response(200, (CONTENT_TYPE,), document(root, "".join(parts)))
