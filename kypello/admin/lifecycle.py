# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the lifecycle of a bucket would remove, without removing it.
"""

import math
from typing import Any

from kypello.admin.call import Call
from kypello.admin.errors import access_denied, invalid_argument
from kypello.admin.wire import json_response, tell_update
from kypello.http.response import Response
from kypello.lifecycle.fates import Due, Removal
from kypello.lifecycle.rules import rules_of
from kypello.model import Question, UploadInfo

#: Who may see all versions may see what becomes of them.
_ACTION = "s3:ListBucketVersions"

#: No clock shows more seconds, in the years that dates can tell.
_LATEST = 253_402_300_799


async def expiring(call: Call) -> Response:
    """
    The first versions that are over by some time, and behind the last of them the uploads.
    """
    name, front = call.named("bucket"), call.front
    bucket = await front.store.bucket(name)
    question = Question(_ACTION, name, call.values)
    if not await call.accounts.allows(call.identity, question, bucket.settings):
        raise access_denied()
    now = _moment(call)
    answer = await front.over.versions(name, call.parameter("after"), now)
    uploads = []
    if answer.next is None:
        rules = rules_of(bucket.settings)
        uploads = [_upload(*each) async for each in front.over.uploads(name, rules, now)]
    return json_response(
        {
            "versions": [_version(removal) for removal in answer.removals],
            "uploads": uploads,
            "next": answer.next,
        }
    )


def _moment(call: Call) -> int:
    """
    The time that is asked for, in nanoseconds since the epoch.
    """
    text = call.parameter("at")
    if not text:
        return int(call.front.clock.seconds() * 1e9)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LATEST:
        raise invalid_argument("The time has to be told in seconds since the epoch.")
    return int(seconds * 1e9)


def _version(removal: Removal) -> dict[str, Any]:
    info = removal.version.info
    return {
        "key": info.key,
        "versionId": info.version_id,
        "action": removal.action.value,
        "marker": removal.version.marker,
        "size": info.size,
        **_due(removal.due),
    }


def _upload(upload: UploadInfo, due: Due) -> dict[str, Any]:
    return {"key": upload.key, "uploadId": upload.upload_id, **_due(due)}


def _due(due: Due) -> dict[str, Any]:
    return {"rule": due.rule, "since": tell_update(due.since)}
