# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.keystore.migration``.
"""

import os
from collections.abc import Sequence

from attrs import define, field
from zope.interface import implementer

from kypello.crypto.masterkey import MasterKey
from kypello.errors import KeyStoreFailed, KeyStoreUnreachable
from kypello.interfaces import IKeyStore
from kypello.keystore.memory import MemoryKeyStore
from kypello.keystore.migration import Migration, Outcome, WayOut
from tests.cases import AsyncCase


def value() -> bytes:
    """
    A new key as it is stored.
    """
    return MasterKey.generate(os.urandom, 1_800_000_000.0, "me").to_bytes()


@implementer(IKeyStore)
@define(eq=False)
class FailingStore:
    """
    A store whose creations fail, or go wrong, in turn.

    :ivar _troubles: What happens to each creation: an error, another value, or nothing.
    """

    _store: MemoryKeyStore
    _troubles: list[Exception | bytes | None] = field(factory=list)

    async def prepare(self) -> None:
        """
        Do nothing.
        """

    async def create(self, name: str, content: bytes) -> None:
        """
        Store a value, or fail.
        """
        trouble = self._troubles.pop(0) if self._troubles else None
        if isinstance(trouble, Exception):
            raise trouble
        await self._store.create(name, content if trouble is None else trouble)

    async def get(self, name: str) -> bytes:
        """
        Read a value.
        """
        return await self._store.get(name)

    async def delete(self, name: str) -> None:
        """
        Remove a value.
        """
        await self._store.delete(name)

    async def names(self) -> Sequence[str]:
        """
        All names.
        """
        return await self._store.names()

    async def status(self) -> float:
        """
        It is there.
        """
        return 0.0

    async def close(self) -> None:
        """
        There is nothing to release.
        """


class MigrationTests(AsyncCase):
    """
    ``Migration`` copies keys.
    """

    async def setUp(self) -> None:
        """
        A source with three keys, and an empty target.
        """
        self.source, self.target = MemoryKeyStore(), MemoryKeyStore()
        self.keys = {name: value() for name in ("a", "b", "c")}
        for name, content in self.keys.items():
            await self.source.create(name, content)

    async def migrate(
        self,
        way_out: WayOut = WayOut.REPORT,
        dry: bool = False,
        target: IKeyStore | None = None,
        names: Sequence[str] = ("a", "b", "c"),
    ) -> dict[str, str]:
        """
        Copy, and give what became of each key.
        """
        self.told: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

        def tell(name: str, outcome: Outcome, reason: str) -> None:
            self.told[name] = outcome.value
            self.reasons[name] = reason

        await Migration(self.source, target or self.target, way_out, dry, tell).run(names)
        return self.told

    async def held(self) -> dict[str, bytes]:
        """
        What the target has.
        """
        return {name: await self.target.get(name) for name in await self.target.names()}

    async def test_copy(self) -> None:
        """
        All keys are copied as they are; done again, nothing is.
        """
        self.assertEqual(set((await self.migrate()).values()), {"copied"})
        self.assertEqual(await self.held(), self.keys)
        self.assertEqual(set((await self.migrate()).values()), {"present"})

    async def test_dry(self) -> None:
        """
        Nothing is written when that is asked for, also not in place of another key.
        """
        other = value()
        await self.target.create("b", other)
        told = await self.migrate(WayOut.REPLACE, dry=True)
        self.assertEqual(told, {"a": "copied", "b": "replaced", "c": "copied"})
        self.assertEqual(await self.held(), {"b": other})

    async def test_conflict(self) -> None:
        """
        Another key of the same name stays, unless it is to be replaced.
        """
        other = value()
        await self.target.create("b", other)
        for way_out, outcome in ((WayOut.REPORT, "conflict"), (WayOut.KEEP, "kept")):
            self.assertEqual((await self.migrate(way_out))["b"], outcome)
            self.assertEqual((await self.held())["b"], other)
        self.assertEqual((await self.migrate(WayOut.REPLACE))["b"], "replaced")
        self.assertEqual(await self.held(), self.keys)

    async def test_race(self) -> None:
        """
        Who finds that somebody else has made the key meanwhile looks which one it is.
        """

        class Racing(FailingStore):
            """
            A store in which somebody else is faster.
            """

            async def create(self, name: str, content: bytes) -> None:
                """
                Lose the race.
                """
                await self._store.create(name, content if name == "a" else value())
                await self._store.create(name, content)

        told = await self.migrate(target=Racing(self.target))
        self.assertEqual(told, {"a": "present", "b": "conflict", "c": "conflict"})

    async def test_junk(self) -> None:
        """
        What is no key is not copied, and told without its content; the others are.
        """
        await self.source.create("junk", b"a secret, perhaps")
        told = await self.migrate(names=("a", "gone", "junk"))
        self.assertEqual(told, {"a": "copied", "gone": "failed", "junk": "failed"})
        self.assertNotIn("secret", self.reasons["junk"])
        self.assertEqual(await self.held(), {"a": self.keys["a"]})

    async def test_refused(self) -> None:
        """
        A key that is refused does not keep others from being copied; a later run brings it.
        """
        target = FailingStore(self.target, [KeyStoreFailed("no room")])
        self.assertEqual(
            sorted((await self.migrate(target=target)).values()), ["copied", "copied", "failed"]
        )
        self.assertIn("no room", self.reasons.values())
        self.assertEqual(
            sorted((await self.migrate(target=target)).values()), ["copied", "present", "present"]
        )

    async def test_unreachable(self) -> None:
        """
        When a store does not answer, the rest is not tried, and a later run goes on.
        """
        names = [f"k{number:03}" for number in range(100)]
        for name in names:
            await self.source.create(name, value())
        target = FailingStore(self.target, [*[None] * 20, KeyStoreUnreachable("away")])
        with self.assertRaises(KeyStoreUnreachable):
            await self.migrate(target=target, names=names)
        self.assertEqual(len(await self.target.names()), 20)
        self.assertLess(len(self.told), 40)
        await self.migrate(target=target, names=names)
        self.assertEqual(list(self.told.values()).count("copied"), 80)
        self.assertEqual(await self.target.names(), names)

    async def test_read_back(self) -> None:
        """
        A copy that does not read back as it was written is a failure.
        """
        told = await self.migrate(target=FailingStore(self.target, [value()]), names=["a"])
        self.assertEqual(told, {"a": "failed"})
        self.assertIn("does not read back", self.reasons["a"])

    async def test_replacing_fails(self) -> None:
        """
        When the new key cannot be written, the one that was there is put back.
        """
        other = value()
        await self.target.create("a", other)
        target = FailingStore(self.target, [KeyStoreFailed("no room")])
        told = await self.migrate(WayOut.REPLACE, target=target, names=["a"])
        self.assertEqual(told, {"a": "failed"})
        self.assertIn("the key that was there is back", self.reasons["a"])
        self.assertEqual(await self.held(), {"a": other})
