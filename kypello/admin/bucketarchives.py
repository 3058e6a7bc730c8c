# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
How buckets are set up, all of them in one archive.

For each there is a folder, with a file for each document, as MinIO has them.  Who exports and
imports needs the rights to each document as well: an archive gives nobody what they may not set.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from kypello.admin.call import Call, Documents
from kypello.admin.errors import Rejected, malformed_archive, not_offered
from kypello.admin.quotas import Asked, change_quota, told_quota
from kypello.admin.refusals import REPLICATION
from kypello.admin.wire import json_response, read_document
from kypello.archive import Limits, MalformedArchive, pack, unpack
from kypello.errors import Refused
from kypello.http.response import Response

LIMITS = Limits(16 << 20, 64 << 20, 50_000)

# Files, in the order in which they can be set: what each is to S3, and to who imports it.
_DOCUMENTS = {
    "versioning.xml": ("versioning", "versioning"),
    "object-lock.xml": ("object-lock", "olock"),
    "bucket-encryption.xml": ("encryption", "sse"),
    "tagging.xml": ("tagging", "tagging"),
    "cors.xml": ("cors", "cors"),
    "lifecycle.xml": ("lifecycle", "lifecycle"),
    "notification.xml": ("notification", "notification"),
    "policy.json": ("policy", "policy"),
    # MinIO has none.
    "public-access-block.xml": ("publicAccessBlock", "publicAccessBlock"),
}

_QUOTA = "quota.json"

_UNKNOWN = {"replication.xml": REPLICATION}

# Says something only where there is replication.
_TARGETS = "bucket-targets.json"


async def export_buckets(call: Call) -> Response:
    """
    Tell how one bucket is set up, or all are.
    """
    documents, store, named = _documents(call), call.front.store, call.parameter("bucket")
    infos = [await store.bucket(named)] if named else await store.buckets()
    files: dict[str, bytes] = {}
    for info in infos:
        for file, (document, _) in _DOCUMENTS.items():
            content = await documents.read(call.identity, call.head, info.name, document)
            if content is not None:
                files[f"{info.name}/{file}"] = content
        quota = told_quota(info.settings)
        if quota["quota"]:
            await call.require("admin:GetBucketQuota")
            files[f"{info.name}/{_QUOTA}"] = msgspec.json.encode(quota)
    packed = await call.front.lanes.lane().run(pack, files)
    return Response(200, (("Content-Type", "application/zip"),), packed)


async def import_buckets(call: Call) -> Response:
    """
    Set up buckets as an archive has them, those that are missing anew, and tell what became of
    each document; one that cannot be set does not keep the others from it.
    """
    documents, named = _documents(call), call.parameter("bucket")
    try:
        files = await call.front.lanes.lane().run(unpack, call.content, LIMITS)
        buckets: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        for path, content in files.items():
            bucket, _, file = path.partition("/")
            if not file or "/" in file:
                raise MalformedArchive(f"{path} is about no bucket")
            buckets[bucket][file] = content
    except MalformedArchive as error:
        raise malformed_archive(error) from error
    told = {
        bucket: await _import(call, documents, bucket, found)
        for bucket, found in sorted(buckets.items())
        if named in ("", bucket)
    }
    return json_response({"buckets": told})


async def _import(
    call: Call, documents: Documents, bucket: str, files: Mapping[str, bytes]
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    failures = []
    try:
        await documents.make(call.identity, call.head, bucket)
    except Refused as error:
        return {"error": error.message}
    known = [file for file in (*_DOCUMENTS, _QUOTA) if file in files]
    for file in (*known, *sorted(files.keys() - {*known, _TARGETS})):
        document, name = _DOCUMENTS.get(file, ("", file.partition(".")[0]))
        content = files[file]
        status: dict[str, Any] = {"isSet": True}
        try:
            if document:
                await documents.write(call.identity, call.head, bucket, document, content)
            elif file == _QUOTA:
                await call.require("admin:SetBucketQuota")
                await change_quota(call, bucket, read_document(content, Asked))
            else:
                raise not_offered(_UNKNOWN.get(file, "There is no such setting here."))
        except (Refused, Rejected) as error:
            status["error"] = error.message
            failures.append(f"{file}: {error.message}")
        told[name] = status
    # Clients show this one.
    return {**told, "error": "; ".join(failures)} if failures else told


def _documents(call: Call) -> Documents:
    documents = call.front.documents
    if documents is None:
        raise not_offered("There is no S3 beside this.")
    return documents
