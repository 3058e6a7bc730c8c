# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How a bucket keeps versions: what is told of it, and how it is set.
"""

from collections.abc import Mapping
from typing import Literal
from xml.etree.ElementTree import Element

from kypello.http.response import Response
from kypello.s3.bucketlock import check_versioning
from kypello.s3.call import Call
from kypello.s3.errors import not_implemented
from kypello.s3.xml import CONTENT_TYPE, children, document, escape, malformed, read_document
from kypello.versioning import SETTING, Versioning, versioning_of

_ROOT = "VersioningConfiguration"
_NAMES = frozenset({"Status", "MfaDelete", "ExcludedPrefixes", "ExcludeFolders"})

#: How many prefixes may be excluded, and how long each may be, in bytes.
_MOST = 10
_LONGEST = 1024

_STATUSES: Mapping[str, Literal["Enabled", "Suspended"]] = {
    "Enabled": "Enabled",
    "Suspended": "Suspended",
}


async def get_versioning(call: Call) -> Response:
    """
    Tell how versions are kept; nothing when there never were any.
    """
    found = versioning_of((await call.front.store.bucket(call.bucket)).settings)
    content = ""
    if found is not None:
        content = f"<Status>{found.status}</Status>" + "".join(
            f"<ExcludedPrefixes><Prefix>{escape(prefix)}</Prefix></ExcludedPrefixes>"
            for prefix in found.excluded
        )
        if found.folders:
            content += "<ExcludeFolders>true</ExcludeFolders>"
    return Response(200, (CONTENT_TYPE,), document(_ROOT, content))


async def put_versioning(call: Call) -> Response:
    """
    Enable or suspend versioning.
    """
    store = call.front.store
    await store.bucket(call.bucket)
    wanted = _read_versioning(await call.read_document())

    def change(settings: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """
        Set it, unless versions are locked by it.
        """
        check_versioning(wanted, settings)
        return {**settings, SETTING: wanted.to_bytes()}

    await store.change_bucket(call.bucket, change)
    return Response(200)


def _read_versioning(body: bytes) -> Versioning:
    texts: dict[str, str] = {}
    excluded: list[str] = []
    for child in children(read_document(body, _ROOT), _NAMES):
        if child.tag == "ExcludedPrefixes":
            excluded.append(_read_prefix(child))
            continue
        if len(child) or child.tag in texts:
            raise malformed()
        texts[child.tag] = (child.text or "").strip()
    status = _STATUSES.get(texts.get("Status", ""))
    mfa, folders = texts.get("MfaDelete", "Disabled"), texts.get("ExcludeFolders", "false")
    if status is None or mfa not in ("Enabled", "Disabled") or folders not in ("true", "false"):
        raise malformed()
    if mfa == "Enabled":
        raise not_implemented("MfaDelete")
    if len(excluded) > _MOST or (status == "Suspended" and (excluded or folders == "true")):
        raise malformed("up to 10 prefixes can be excluded, while versioning is enabled")
    return Versioning(status, tuple(excluded), folders == "true")


def _read_prefix(element: Element) -> str:
    prefixes = list(children(element, frozenset({"Prefix"})))
    if len(prefixes) != 1 or len(prefixes[0]):
        raise malformed()
    prefix = prefixes[0].text or ""
    if not 1 <= len(prefix.encode()) <= _LONGEST:
        raise malformed("Prefix")
    return prefix
