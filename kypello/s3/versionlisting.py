# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Listings of all versions of objects.
"""

from collections.abc import Iterator

from kypello.http.response import Response
from kypello.model import ListedVersion, VersionQuery
from kypello.s3.call import Call
from kypello.s3.dates import xml_date
from kypello.s3.errors import invalid_argument
from kypello.s3.extensions import metadata_elements
from kypello.s3.listings import Page, Write, answer, entry, read_page
from kypello.s3.owner import OWNER
from kypello.s3.versions import check_version
from kypello.s3.xml import escape

_MARKER, _VERSION_MARKER = "key-marker", "version-id-marker"


async def list_versions(call: Call) -> Response:
    """
    List versions and delete markers.
    """
    page, version_marker = await call.check(lambda: _read(call))
    query, write = page.query, page.write
    listing = await call.front.store.list_versions(
        call.bucket,
        VersionQuery(
            query.prefix,
            query.delimiter,
            query.start_after,
            version_marker,
            query.limit,
            query.brief,
        ),
    )
    following = ""
    if listing.next is not None:
        key, version_id = listing.next
        following = f"<NextKeyMarker>{write(key)}</NextKeyMarker>"
        if version_id:
            following += f"<NextVersionIdMarker>{version_id}</NextVersionIdMarker>"
    infos = [each.info for each in listing.versions if not each.marker]
    more = iter(await metadata_elements(call, infos))
    return answer(
        "ListVersionsResult",
        page.head(more=listing.next is not None),
        f"<KeyMarker>{write(query.start_after)}</KeyMarker>",
        f"<VersionIdMarker>{escape(version_marker)}</VersionIdMarker>",
        following,
        "".join([_element(each, write, more) for each in listing.versions]),
        page.groups(listing.prefixes),
    )


def _read(call: Call) -> tuple[Page, str]:
    head = call.head
    marker, version_marker = head.parameter(_MARKER) or "", head.parameter(_VERSION_MARKER) or ""
    if version_marker and not marker:
        raise invalid_argument(
            _VERSION_MARKER,
            version_marker,
            "A version-id marker cannot be specified without a key marker.",
        )
    check_version(version_marker, _VERSION_MARKER)
    return read_page(call.bucket, head, marker), version_marker


def _element(version: ListedVersion, write: Write, more: Iterator[str]) -> str:
    """
    A version or a delete marker.

    :param more: What else the next version shows.
    """
    info = version.info
    latest = "true" if version.latest else "false"
    identified = f"<VersionId>{info.version_id}</VersionId><IsLatest>{latest}</IsLatest>"
    if not version.marker:
        return f"<Version>{identified}{entry(info, write)}{OWNER}{next(more)}</Version>"
    return (
        f"<DeleteMarker><Key>{write(info.key)}</Key>{identified}"
        f"<LastModified>{xml_date(info.modified)}</LastModified>{OWNER}</DeleteMarker>"
    )
