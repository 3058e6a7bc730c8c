# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Events as clients read them: JSON of MinIO's shape, which is that of AWS with more in it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import msgspec
from attrs import evolve, frozen

from kypello.model import NULL_VERSION, SSE_C, Event, ObjectInfo

#: What makes an object; its place among the others of its key was decided in its commit.
_MADE = frozenset(
    f"s3:ObjectCreated:{kind}" for kind in ("CompleteMultipartUpload", "Copy", "Post", "Put")
)


@frozen
class Source:
    """
    The server that events come from.

    :ivar region: Empty for none.
    :ivar node: What it is called.
    :ivar host_id: What ``x-amz-id-2`` says.
    """

    region: str
    node: str
    host_id: str


def is_sealed(event: Event) -> bool:
    """
    Whether an event tells what must not lie in clear on the disk.
    """
    return event.info is not None and event.info.metadata.sealing is not None


def in_clear(event: Event) -> Event:
    """
    The same event with nothing in it but what lies in clear on the disk anyway.
    """
    assert event.info is not None
    metadata = evolve(event.info.metadata, etag="", headers={}, user={})
    return evolve(event, info=evolve(event.info, metadata=metadata))


def listed(event: Event, source: Source) -> bytes:
    """
    An event for those who listen.
    """
    return msgspec.json.encode({"Records": [_record(event, source)]})


def message(event: Event, source: Source) -> bytes:
    """
    An event for a target.
    """
    return msgspec.json.encode(
        {"EventName": event.name, "Key": subject(event), "Records": [_record(event, source)]}
    )


def subject(event: Event) -> str:
    """
    What an event is about: events about the same are sent in order.
    """
    return f"{event.bucket}/{event.key}" if event.key else event.bucket


def _record(event: Event, source: Source) -> dict[str, Any]:
    who = {"principalId": event.principal}
    moment = datetime.fromtimestamp(event.time / 1e9, UTC)
    address = event.source
    record: dict[str, Any] = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": source.region,
        "eventTime": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "eventName": event.name,
        "userIdentity": who,
        "requestParameters": {**who, "region": source.region, "sourceIPAddress": address},
        "responseElements": {
            "x-amz-request-id": event.request_id,
            "x-amz-id-2": source.host_id,
            "x-minio-origin-endpoint": source.node,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {
                "name": event.bucket,
                "ownerIdentity": who,
                "arn": f"arn:aws:s3:::{event.bucket}",
            },
            "object": _object(event),
        },
        "source": {"host": address, "port": "", "userAgent": event.agent},
    }
    return record


def _object(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {"key": quote_plus(event.key)}
    info = event.info
    if info is not None:
        told |= _metadata(info)
    version_id = "" if info is not None and info.version_id == NULL_VERSION else event.version_id
    if version_id:
        told["versionId"] = version_id
    made = info is not None and event.name in _MADE
    told["sequencer"] = f"{info.modified if info is not None and made else event.time:016X}"
    return told


def _metadata(info: ObjectInfo) -> dict[str, Any]:
    told: dict[str, Any] = {"size": info.size}
    metadata = info.metadata
    if metadata.etag:
        told["eTag"] = metadata.etag
    if metadata.sealing is not None and metadata.sealing.algorithm == SSE_C:
        # The rest is for those who have the key.
        return told
    kind = metadata.headers.get("content-type")
    if kind:
        told["contentType"] = kind
    user = _user_metadata(metadata.user)
    if kind or user:
        told["userMetadata"] = {**({"content-type": kind} if kind else {}), **user}
    return told


def _user_metadata(user: Mapping[str, str]) -> dict[str, str]:
    # As Go's libraries spell names of headers.
    return {
        "X-Amz-Meta-" + "-".join(word.capitalize() for word in name.split("-")): value
        for name, value in user.items()
    }


class _Bucket(msgspec.Struct):
    """
    The bucket of an event.
    """

    name: str


class _Object(msgspec.Struct):
    """
    The object of an event.
    """

    key: str


class _S3(msgspec.Struct):
    """
    What an event is about.
    """

    bucket: _Bucket
    object: _Object


class _Record(msgspec.Struct):
    """
    What decides whether an event is wanted.
    """

    s3: _S3
    name: str = msgspec.field(name="eventName")


class _Listed(msgspec.Struct):
    """
    An event that was told to those who listen.
    """

    records: list[_Record] = msgspec.field(name="Records")


_listed = msgspec.json.Decoder(_Listed)


def read_listed(told: bytes) -> tuple[str, str, str]:
    """
    Name, bucket and key of an event that is told to those who listen.
    """
    record = _listed.decode(told).records[0]
    return record.name, record.s3.bucket.name, unquote_plus(record.s3.object.key)
