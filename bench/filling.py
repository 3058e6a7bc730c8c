# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Buckets of very many keys, written into the index while no server runs.

A server stores one encrypted object, and its record is written again under other keys, with its
metadata sealed anew for each of them.  What comes of it can be listed, looked at and replaced as
if the server had stored it; its content cannot be opened, as the key of an object is bound to
the name of the object.
"""

import os
from base64 import b64decode
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from attrs import define, evolve
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.servers import STATIC_KEY
from kypello.interfaces import ILane, ILanes
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import StaticKeySettings
from kypello.model import NULL_VERSION, BucketInfo, Write
from kypello.objects.bucketkeys import BucketKeys
from kypello.objects.datakeys import DataKeys
from kypello.objects.metadata import MetadataKey
from kypello.store.directory import DataDirectory
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.store.records import (
    SYSTEM,
    BucketRecord,
    ObjectRecord,
    bucket_key,
    content_key,
    metadata_record,
    object_key,
    pack,
    unpack,
)
from kypello.store.sqlite import SQLiteIndex

#: How many objects are made by one commit.
_TOGETHER = 5000

T = TypeVar("T")


@implementer(ILane, ILanes)
@define(eq=False)
class _Here:
    """
    Lanes that are the thread that calls.
    """

    def lane(self, *, bulk: bool = False) -> "_Here":
        return self

    async def run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)


def fill(data: Path, bucket: str, template: str, keys: Iterable[str]) -> None:
    """
    Make objects like one that is there already.

    :param data: The data directory of a server that used the static key, and has ended.
    :param template: The key of a small object that is encrypted with SSE-S3.
    :param keys: Of the objects to make.
    """
    directory = DataDirectory(data)
    with closing(directory):
        index = SQLiteIndex(directory.index, _Here())
        try:
            _fill(index, bucket, template, iter(keys))
        finally:
            _now(index.close())


def _fill(index: SQLiteIndex, bucket: str, template: str, keys: Iterator[str]) -> None:
    (raw,) = _now(index.get(SYSTEM, [bucket_key(bucket)]))
    assert raw is not None, "no such bucket"
    found = unpack(BucketRecord, raw)
    wanted = [object_key(template), content_key(template, NULL_VERSION)]
    packed, content = _now(index.get(found.space, wanted))
    metadata_key = _metadata_key(BucketInfo(bucket, found.created, found.settings))
    assert packed is not None and metadata_key is not None, "no such object"
    record = unpack(ObjectRecord, packed)
    stored = record.info(bucket, template).metadata
    opened = metadata_key.open(template, stored)
    plain = evolve(opened.metadata, internal=stored.internal)
    while some := list(islice(keys, _TOGETHER)):
        writes = []
        for key in some:
            sealed = metadata_key.seal(key, plain, opened.size, os.urandom)
            made = pack(replace(record, metadata=metadata_record(sealed)))
            writes.append(Write(object_key(key), made))
            writes.append(Write(content_key(key, NULL_VERSION), content))
        _now(index.commit(found.space, writes, {}, ()))


def _metadata_key(bucket: BucketInfo) -> MetadataKey | None:
    name, _, key = STATIC_KEY["MINIO_KMS_SECRET_KEY"].partition(":")
    kms = StaticKMS(StaticKeySettings(name, b64decode(key)), os.urandom)
    below = LayoutStore(MemoryIndex(), MemoryBlobs(), Clock(), os.urandom)
    return _now(BucketKeys(below, DataKeys(kms, Clock()), os.urandom).key(bucket))


def _now(waiting: Coroutine[Deferred[Any], Any, T]) -> T:
    """
    The outcome of what waits for nothing.
    """
    outcome: list[Any] = []
    Deferred.fromCoroutine(waiting).addBoth(outcome.append)
    (result,) = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return cast(T, result)
