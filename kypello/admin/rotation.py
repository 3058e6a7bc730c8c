# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Other master keys for what is stored: what ``kypello encrypt rotate`` asks for.

It is this server's own; MinIO has batch jobs for that.  Each call does a part, and tells where the
next one begins, so that nothing of it is kept between two calls.
"""

from collections.abc import Mapping
from typing import Literal

from attrs import evolve

from kypello.admin.call import Call
from kypello.admin.errors import invalid_argument, text_of
from kypello.admin.wire import Document, json_response
from kypello.crypto.sse import SETTING, ServerSideEncryption, master_key_name
from kypello.errors import KMSNotConfigured
from kypello.http.response import Response
from kypello.interfaces import IRewrapping
from kypello.model import UploadQuery, VersionQuery
from kypello.objects.rotation import Page, Plan, Rotation

#: How many versions one call looks at, at most.
MAX_PAGE = 1000


class _Plan(Document, forbid_unknown_fields=True):
    """
    Which keys are wanted; see :class:`Plan`.

    :ivar bucket: Empty for what belongs to none: the accounts.
    :ivar key_name: Empty for the default key.
    :ivar dry_run: Change nothing.
    """

    bucket: str = ""
    key_name: str = ""
    source: str = ""
    algorithm: Literal["", "AES256", "aws:kms"] = ""
    context: Mapping[str, str] | None = None
    again: bool = False
    plain: bool = False
    dry_run: bool = False

    def plan(self, default_key: str) -> Plan:
        """
        The plan.

        :raises Refused: A name can be none of a key.
        """
        name, source = (text and master_key_name(text) for text in (self.key_name, self.source))
        return Plan(
            name or default_key, source, self.algorithm, self.context, self.again, self.plain
        )


class _Uploads(_Plan, forbid_unknown_fields=True):
    """
    Which unfinished uploads.

    :ivar after_key: Begin behind this key and upload, as the call before told; empty to begin.
    """

    prefix: str = ""
    after_key: str = ""
    after_upload: str = ""
    limit: int = MAX_PAGE


class _Objects(_Plan, forbid_unknown_fields=True):
    """
    Which objects.

    :ivar after_key: Begin behind this key and version, as the call before told; empty to begin.
    """

    prefix: str = ""
    after_key: str = ""
    after_version: str = ""
    limit: int = MAX_PAGE


async def rotate_objects(call: Call) -> Response:
    """
    Give one page of the versions of objects other keys.
    """
    wanted = call.read(_Objects)
    _check(wanted)
    keys, plan = _keys(call), wanted.plan(_default_key(call))
    query = VersionQuery(
        wanted.prefix,
        after_key=wanted.after_key,
        after_version=wanted.after_version,
        limit=wanted.limit,
    )
    page = await _rotation(call, keys).page(wanted.bucket, query, plan, dry=wanted.dry_run)
    return json_response(_told(page, "versionId"))


async def rotate_uploads(call: Call) -> Response:
    """
    Give one page of the unfinished uploads of a bucket other keys, and so the objects that they
    become.
    """
    wanted = call.read(_Uploads)
    _check(wanted)
    keys, plan = _keys(call), wanted.plan(_default_key(call))
    query = UploadQuery(
        wanted.prefix,
        after_key=wanted.after_key,
        after_upload=wanted.after_upload,
        limit=wanted.limit,
    )
    page = await _rotation(call, keys).uploads(wanted.bucket, query, plan, dry=wanted.dry_run)
    return json_response(_told(page, "uploadId"))


async def rotate_key(call: Call) -> Response:
    """
    Have what seals the metadata of a bucket's objects, or the accounts, sealed anew.

    It also tells the master key that is used for what is new, if that is none of the plan's, and,
    with the accounts, all buckets, also those whose content who asks may not see, and how many
    events wait for their targets that need another key.
    """
    wanted = call.read(_Plan)
    keys, plan = _keys(call), wanted.plan(_default_key(call))
    accounts, events = call.accounts, 0
    buckets: list[str] = []
    default = _default_key(call)
    if wanted.bucket:
        name = await keys.master_key(wanted.bucket)
        default = await _default_of(call, wanted.bucket)
    else:
        name = await accounts.master_key()
        buckets = sorted(each.name for each in await call.front.store.buckets())
        if call.front.key_usage is not None:
            waiting = await call.front.key_usage.waiting_events()
            events = sum(count for key, count in waiting.items() if key and plan.concerns(key))
    changed = bool(name) and plan.concerns(name)
    if changed and not wanted.dry_run:
        if wanted.bucket:
            await keys.rewrap_bucket(wanted.bucket, plan.key_name)
        else:
            await accounts.rewrap(plan.key_name)
    return json_response(
        {
            "keyName": plan.key_name,
            "before": name,
            "changed": changed,
            "buckets": buckets,
            "events": events,
            "default": default if default and evolve(plan, again=False).concerns(default) else "",
        }
    )


def _check(wanted: _Objects | _Uploads) -> None:
    """
    See that a page is wanted.

    :raises Refused:
    """
    if not wanted.bucket or not 1 <= wanted.limit <= MAX_PAGE:
        raise invalid_argument(f"It takes a bucket, and a limit from 1 to {MAX_PAGE}.")


def _told(page: Page, named: str) -> Mapping[str, object]:
    """
    What became of a page.

    :param named: How the ids of what was changed are called.
    """
    return {
        "seen": page.seen,
        "changed": page.changed,
        "encrypted": page.encrypted,
        "plain": page.plain,
        "customers": page.customers,
        "troubles": [
            {"key": one.key, named: one.id, "reason": text_of(one.error)} for one in page.troubles
        ],
        "next": None if page.next is None else {"key": page.next[0], named: page.next[1]},
    }


async def _default_of(call: Call, bucket: str) -> str:
    """
    The name of the master key that the default encryption of a bucket names; empty for none.
    """
    stored = (await call.front.store.bucket(bucket)).settings.get(SETTING)
    key_id = "" if stored is None else ServerSideEncryption.from_bytes(stored).key_id
    return key_id and master_key_name(key_id)


def _keys(call: Call) -> IRewrapping:
    """
    What seals keys anew.

    :raises KMSNotConfigured:
    """
    if call.front.rewrapping is None:
        raise KMSNotConfigured()
    return call.front.rewrapping


def _rotation(call: Call, keys: IRewrapping) -> Rotation:
    return Rotation(call.front.store, keys, call.front.lanes.lane())


def _default_key(call: Call) -> str:
    if call.front.kms is None:
        raise KMSNotConfigured()
    return call.front.kms.default_key
