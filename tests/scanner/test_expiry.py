# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.scanner.expiry``.
"""

import os
from base64 import b64encode
from collections.abc import Callable, Coroutine
from hashlib import md5
from itertools import product
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.errors import NoSuchKey, NoSuchUpload, StorageFailed
from kypello.interfaces import IObjectStore
from kypello.lifecycle.fates import Calendar
from kypello.lifecycle.rules import SETTING, Filter, Lifecycle, Rule
from kypello.model import (
    GOVERNANCE,
    NULL_VERSION,
    SSE_C,
    CustomerKey,
    EncryptionRequest,
    ListedVersion,
    Lock,
    ObjectInfo,
    ObjectMetadata,
    UploadQuery,
    VersionQuery,
)
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.scanner.expiry import ExpiryVisitor
from kypello.scanner.over import Over
from kypello.scanner.scan import PAGE, Scan
from kypello.scannerconfig import DAY, Pace
from kypello.store.layout import LayoutStore
from kypello.store.memory import MemoryBlobs, MemoryIndex
from kypello.testing.fakes import BytesSource, RecordingSink
from kypello.versioning import SETTING as VERSIONING
from kypello.versioning import Versioning
from tests.cases import SyncCase
from tests.objects.keyservice import MemoryKMS
from tests.store.stepping import Gate, SteppedBlobs, SteppedIndex

#: The bucket.
_B = "b"

#: More steps than any removal takes.
_MOST = 100


class StoreCase(SyncCase):
    """
    A store in memory with one bucket, and who removes what is over.
    """

    def setUp(self) -> None:
        """
        Everything is encrypted.
        """
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.sink = RecordingSink()
        self.index, self.blobs = MemoryIndex(), MemoryBlobs()
        self.store = self.encrypted(LayoutStore(self.index, self.blobs, self.clock, os.urandom))
        self.done(self.store.create_bucket(_B, {}))

    def encrypted(self, below: IObjectStore) -> EncryptedStore:
        """
        A store above another one.
        """
        self.kms = getattr(self, "kms", None) or MemoryKMS.with_default_key()
        return EncryptedStore(below, DataKeys(self.kms, self.clock), os.urandom, True)

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """
        What a coroutine gives that waits for the clock only.
        """
        doing = Deferred.fromCoroutine(work)
        for _ in range(1000):
            if doing.called:
                break
            self.clock.advance(0)
        return self.successResultOf(doing)

    def rules(self, *rules: Rule) -> None:
        """
        Set rules.
        """
        setting = Lifecycle(rules, 0, "").to_bytes()
        self.done(self.store.change_bucket(_B, lambda old: {**old, SETTING: setting}))

    def versioning(self, status: Any) -> None:
        """
        Enable or suspend versioning.
        """
        setting = Versioning(status).to_bytes()
        self.done(self.store.change_bucket(_B, lambda old: {**old, VERSIONING: setting}))

    def put(self, key: str, content: bytes = b"old", **tags: str) -> ObjectInfo:
        """
        Store an object.
        """
        work = self.store.put(
            _B, key, BytesSource([content]), lambda _size: ObjectMetadata("e", tags=tags)
        )
        info: ObjectInfo = self.done(work)
        return info

    def delete(self, key: str, version_id: str = "") -> str:
        """
        Remove an object or a version.
        """
        found: str = self.done(self.store.delete(_B, key, None, version_id)).version_id
        return found

    def lock(self, info: ObjectInfo, lock: Lock) -> None:
        """
        Lock a version.
        """
        work = self.store.change_version(
            _B, info.key, info.version_id, lambda found: evolve(found.metadata, lock=lock)
        )
        self.done(work)

    def scan(self, days: float = 0, stale: float | None = None) -> None:
        """
        Remove what is over after some days.
        """
        self.clock.advance(days * DAY)
        over = Over(self.store, Calendar(), stale)
        visitor = ExpiryVisitor(self.store, self.clock, over, self.sink)
        self.done(Scan(self.store, [visitor], self.clock, Pace(0)).round())

    def listed(self) -> list[ListedVersion]:
        """
        All versions that there are.
        """
        return list(self.done(self.store.list_versions(_B, VersionQuery())).versions)

    def stack(self) -> list[str]:
        """
        The ids of all versions, markers in brackets.
        """
        return [
            f"({each.info.version_id})" if each.marker else each.info.version_id
            for each in self.listed()
        ]


class ExpiryTests(StoreCase):
    """
    What goes, and what stays.
    """

    def test_plain(self) -> None:
        """
        In a bucket without versions objects go, each in its time, by their tags as well.
        """
        self.rules(
            Rule("r", True, days=2), Rule("q", True, days=1, filter=Filter(tags=(("k", "v"),)))
        )
        self.put("tagged", k="v")
        self.put("plain")
        self.scan()
        self.assertEqual(len(self.listed()), 2)
        self.scan(2)
        self.assertEqual([each.info.key for each in self.listed()], ["plain"])
        self.scan(1)
        self.assertEqual(self.listed(), [])

    def test_versions(self) -> None:
        """
        In a bucket with versions an object is hidden, then the version goes, then the marker.
        """
        self.versioning("Enabled")
        self.rules(Rule("r", True, days=1), Rule("n", True, noncurrent_days=1))
        info = self.put("k")
        self.scan(2)
        marker, below = self.stack()
        self.assertEqual((marker[0], below), ("(", info.version_id))
        self.scan(0)
        self.assertEqual(self.stack(), [marker, below])
        self.scan(2)
        self.assertEqual(self.stack(), [marker])
        self.scan(0)
        self.assertEqual(self.stack(), [])

    def test_events(self) -> None:
        """
        What goes is told to who wants to hear of the bucket, with what was removed or made.
        """
        self.rules(Rule("r", True, days=1), Rule("n", True, noncurrent_days=1))
        self.put("plain")
        self.scan(2)
        self.versioning("Enabled")
        info = self.put("k")
        self.scan(2)
        (marker, _) = self.listed()
        for _ in range(2):
            self.scan(2)
        kind = "s3:LifecycleExpiration"
        self.assertEqual(
            [(each.name, each.key, each.version_id) for each in self.sink.told],
            [
                (f"{kind}:Delete", "plain", ""),
                (f"{kind}:DeleteMarkerCreated", "k", marker.info.version_id),
                (f"{kind}:Delete", "k", info.version_id),
                (f"{kind}:Delete", "k", marker.info.version_id),
            ],
        )
        self.sink = RecordingSink("other setting")
        self.put("k")
        self.scan(2)
        self.assertEqual(self.sink.told, [])

    def test_suspended(self) -> None:
        """
        While versioning is suspended the version null makes way for a marker of this id.
        """
        self.versioning("Suspended")
        self.rules(Rule("r", True, days=1))
        self.put("k")
        self.scan(2)
        self.assertEqual(self.stack(), [f"({NULL_VERSION})"])

    def test_all_versions(self) -> None:
        """
        All versions of a key go, but those that are locked, and the marker above them stays.
        """
        self.versioning("Enabled")
        self.rules(Rule("r", True, marker_days=1))
        for key in ("free", "locked"):
            for _ in range(3):
                info = self.put(key)
        self.lock(info, Lock(GOVERNANCE, int((self.clock.seconds() + 5 * DAY) * 1e9)))
        self.delete("free")
        marker = self.delete("locked")
        self.scan(2)
        self.assertEqual(self.stack(), [f"({marker})", info.version_id])
        self.scan(4)
        self.assertEqual(self.stack(), [])

    def test_told_again(self) -> None:
        """
        When the last version of a page has no id of its own and is removed, the next page tells
        its key again, from the beginning; what is current stays.
        """
        for marked in (False, True):
            self.setUp()
            self.put("k")
            self.versioning("Enabled")
            for _ in range(PAGE - 1 - marked):
                newest = self.put("k").version_id
            if marked:
                newest = self.delete("k")
            self.put("l")
            self.rules(Rule("n", True, noncurrent_days=1))
            self.scan(3)
            found = [each.info.version_id for each in self.listed() if each.info.key == "k"]
            self.assertEqual(found, [newest])

    def test_disabled(self) -> None:
        """
        Rules that do not count do nothing, nor do those of another prefix.
        """
        self.rules(Rule("r", False, days=1), Rule("p", True, prefix="p/", days=1))
        self.put("k")
        self.put("p/k")
        self.scan(9)
        self.assertEqual([each.info.key for each in self.listed()], ["k"])

    def test_taken_back(self) -> None:
        """
        Rules that are taken back while a bucket is walked through count no more.
        """
        self.rules(Rule("r", True, days=1))
        self.put("k")
        self.clock.advance(3 * DAY)
        visitor = ExpiryVisitor(self.store, self.clock, Over(self.store, Calendar(), None))
        visit = self.done(visitor.enter(self.done(self.store.bucket(_B))))
        self.rules()
        self.done(visit.page(self.listed()))
        self.done(visit.end())
        self.assertEqual(len(self.listed()), 1)

    def test_key_service_away(self) -> None:
        """
        What is encrypted waits for the key service, and the rest of the round is made.
        """
        self.rules(Rule("r", True, days=1), Rule("u", True, abort_days=1))
        self.put("k")
        work = self.store.create_upload(_B, "u", ObjectMetadata())
        self.done(work)
        self.store = self.encrypted(LayoutStore(self.index, self.blobs, self.clock, os.urandom))
        self.kms.down = True
        self.scan(3)
        self.assertEqual(self.uploads(), [])
        self.kms.down = False
        self.scan(1)
        self.assertEqual(self.listed(), [])

    def test_keys_of_clients(self) -> None:
        """
        What is encrypted with a key of its client goes like anything else, by its tags as well.
        """
        self.rules(Rule("r", True, days=1, filter=Filter(tags=(("k", "v"),))))
        key = bytes(range(32))
        request = EncryptionRequest(
            SSE_C, customer_key=CustomerKey(key, b64encode(md5(key).digest()).decode())
        )
        for name, tags in (("gone", {"k": "v"}), ("kept", {})):
            body, metadata = BytesSource([b"content"]), ObjectMetadata("e", tags=tags)
            self.done(self.store.put(_B, name, body, lambda _size, told=metadata: told, request))
        self.scan(3)
        self.assertEqual([each.info.key for each in self.listed()], ["kept"])

    def test_uploads(self) -> None:
        """
        Unfinished uploads are aborted by the rule of their prefix, and others when nothing came
        for long enough.
        """
        self.rules(Rule("r", True, prefix="p/", abort_days=20))
        for key in ("k", "p/k"):
            self.done(self.store.create_upload(_B, key, ObjectMetadata()))
        (upload, _) = self.uploads()
        self.scan(5, stale=7 * DAY)
        part = self.store.put_part(
            _B, "k", upload.upload_id, 1, BytesSource([b"x"]), lambda _size: ObjectMetadata("e")
        )
        self.done(part)
        self.scan(6, stale=7 * DAY)
        self.assertEqual(len(self.uploads()), 2)
        self.scan(2, stale=7 * DAY)
        self.assertEqual([each.key for each in self.uploads()], ["p/k"])
        self.scan(8, stale=None)
        self.assertEqual(self.uploads(), [])
        self.failureResultOf(
            Deferred.fromCoroutine(self.store.upload(_B, "k", upload.upload_id)), NoSuchUpload
        )

    def test_many_uploads(self) -> None:
        """
        More uploads than a page has are aborted, of one key or of many.
        """
        for number in range(120):
            key = "same" if number % 2 else f"k{number}"
            self.done(self.store.create_upload(_B, key, ObjectMetadata()))
        self.scan(8, stale=7 * DAY)
        self.assertEqual(self.uploads(), [])

    def uploads(self) -> list[Any]:
        """
        The unfinished uploads.
        """
        return list(self.done(self.store.uploads(_B, UploadQuery())).uploads)

    def test_failing(self) -> None:
        """
        What cannot be removed does not keep the rest; and a marker stays above it.
        """
        self.versioning("Enabled")
        self.rules(Rule("r", True, marker_days=1))
        for key in ("a", "b"):
            info = self.put(key)
            self.delete(key)
        below = LayoutStore(self.index, self.blobs, self.clock, os.urandom)
        self.store = _Failing(below, info.version_id)  # type: ignore[assignment]
        self.scan(2)
        left = self.listed()
        self.assertEqual([each.info.key for each in left], ["b", "b"])
        self.assertTrue(left[0].marker)


class _Failing:
    """
    A store that cannot remove one version.
    """

    def __init__(self, store: IObjectStore, version_id: str) -> None:
        """
        Over another store.
        """
        self._store, self._version_id = store, version_id

    def __getattr__(self, name: str) -> Any:
        """
        All else is as below.
        """
        return getattr(self._store, name)

    async def delete(self, bucket: str, key: str, *rest: Any) -> Any:
        """
        Fail for one version.
        """
        if self._version_id in rest:
            raise StorageFailed("the disk")
        return await self._store.delete(bucket, key, *rest)


class RaceTests(StoreCase):
    """
    Another process changes what is just expiring, at whatever step that is.
    """

    def race(
        self,
        prepare: Callable[[], None],
        meanwhile: Callable[[], object],
        check: Callable[[], None],
    ) -> None:
        """
        Begin to remove, stop after each number of steps, let another process work, and go on.
        """
        for steps in range(_MOST):
            self.setUp()
            prepare()
            self.clock.advance(3 * DAY)
            gate = Gate()
            slow = self.encrypted(
                LayoutStore(
                    SteppedIndex(self.index, gate),
                    SteppedBlobs(self.blobs, gate),
                    self.clock,
                    os.urandom,
                    1,
                    2,
                )
            )
            visitor = ExpiryVisitor(slow, self.clock, Over(slow, Calendar(), None))
            expiring = Deferred.fromCoroutine(self.expire(visitor, self.listed()))
            for _ in range(steps):
                if not expiring.called:
                    gate.go()
            ended = expiring.called
            meanwhile()
            gate.finish(expiring)
            self.successResultOf(expiring)
            check()
            if ended:
                return
        self.fail("it does not end")

    async def expire(self, visitor: ExpiryVisitor, seen: list[ListedVersion]) -> None:
        """
        Remove what is over of what was seen before.
        """
        visit = await visitor.enter(await self.store.bucket(_B))
        await visit.page(seen)
        await visit.end()

    def assert_current(self, content: bytes) -> None:
        """
        The object is there and new.
        """
        self.assertEqual(self.done(self.store.head(_B, "k")).size, len(content))

    def test_overwritten(self) -> None:
        """
        What is stored meanwhile is current afterwards, in a bucket without versions, with them,
        and while they are suspended.
        """
        for status, whole in product((None, "Enabled", "Suspended"), (None, True)):

            def prepare(status: str | None = status, whole: bool | None = whole) -> None:
                if status is not None:
                    self.versioning(status)
                self.rules(Rule("r", True, days=1, all_versions=whole))
                self.put("k")

            self.race(
                prepare, lambda: self.put("k", b"newer"), lambda: self.assert_current(b"newer")
            )

    def test_tagged(self) -> None:
        """
        An object whose tags are taken away before it is removed stays.
        """
        changed: list[bool] = []

        def prepare() -> None:
            self.rules(Rule("r", True, days=1, filter=Filter(tags=(("k", "v"),))))
            self.put("k", k="v")
            changed.clear()

        def untag() -> None:
            work = self.store.change_version(
                _B, "k", "", lambda found: evolve(found.metadata, tags={})
            )
            deferred = Deferred.fromCoroutine(work)
            deferred.addCallbacks(
                lambda _info: changed.append(True), lambda failure: failure.trap(NoSuchKey) and None
            )

        def check() -> None:
            self.assertEqual(len(self.listed()), len(changed))

        self.race(prepare, untag, check)

    def test_locked(self) -> None:
        """
        A version that is locked before it is removed stays.
        """
        kept: list[str] = []

        def prepare() -> None:
            self.versioning("Enabled")
            self.rules(Rule("n", True, noncurrent_days=1))
            kept[:] = [self.put("k").version_id]
            self.put("k", b"newer")

        def lock() -> None:
            if kept[0] in self.stack():
                (info,) = [each.info for each in self.listed() if each.info.version_id == kept[0]]
                self.lock(info, Lock(hold=True))
            else:
                kept.clear()

        def check() -> None:
            self.assertEqual(self.stack()[1:], kept)

        self.race(prepare, lock, check)

    def test_uncovered(self) -> None:
        """
        A version that becomes current again before it is removed stays.
        """
        made: list[str] = []

        def prepare() -> None:
            self.versioning("Enabled")
            self.rules(Rule("n", True, noncurrent_days=1))
            made[:] = [self.put("k").version_id, self.put("k", b"newer").version_id]

        def uncover() -> None:
            if made[0] not in self.stack():
                made.clear()
            else:
                self.delete("k", made[1])

        def check() -> None:
            if made:
                self.assertEqual(self.stack(), made[:1])

        self.race(prepare, uncover, check)

    def test_stored_above_a_marker(self) -> None:
        """
        What is stored above a marker that goes is current afterwards, with what was below gone or
        not.
        """

        def prepare() -> None:
            self.versioning("Enabled")
            self.rules(Rule("m", True, marker_days=1))
            self.put("k")
            self.delete("k")

        self.race(prepare, lambda: self.put("k", b"newer"), lambda: self.assert_current(b"newer"))
