# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.store.rebuild``: what becomes of databases that are damaged.
"""

import os
import random
from pathlib import Path

from tests.store.rebuilding import BIG, SMALL, SSE_S3, LosingCase, lose

PAGE = 4096

#: How many ways of damage are tried; more with ``KYPELLO_SEEDS``.
SEEDS = int(os.environ.get("KYPELLO_SEEDS", "5"))


class DamageTests(LosingCase):
    """
    Databases that are damaged.
    """

    async def damaged(self, path: Path, seed: int) -> str:
        """
        Damage a database in a way of choice.

        :return: Which.
        """
        chance = random.Random(seed)
        way = ("overwritten", "zeroed", "cut short", "flipped", "log")[seed % 5]
        target = path.with_name(path.name + "-wal") if way == "log" else path
        content = bytearray(target.read_bytes())
        pages = len(content) // PAGE
        if way == "cut short":
            del content[chance.randrange(1, pages) * PAGE + chance.randrange(PAGE) :]
        elif way in ("flipped", "log"):
            for _ in range(5):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            for _ in range(2):
                at = chance.randrange(pages) * PAGE
                junk = chance.randbytes(PAGE) if way == "overwritten" else bytes(PAGE)
                content[at : at + PAGE] = junk
        target.write_bytes(content)
        return way

    async def test_damage(self) -> None:
        """
        Whatever is damaged of a database, of a bucket or of the system, all that is not small
        comes back as it was, and what of the small objects can be served is as it was, too.
        """
        await self.fill()
        # The tree of the table has pages that hold pages, and the log has something.
        for number in range(150):
            await self.put(f"fill/{number:03}", SMALL, None, seed=number)
        for number in range(20):
            await self.put(f"fill/big/{number:03}", BIG, SSE_S3, seed=number)
        await self.sweep()
        await self.remember()
        database = await self.database()
        copies = {path: path.read_bytes() for path in (self.path / "index").rglob("*.sqlite*")}
        await self.index.close()
        for seed in range(SEEDS):
            lose(self.path / "index")
            for path, content in copies.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            system = self.path / "index" / "system.sqlite"
            way = await self.damaged(system if seed % 4 == 3 else database, seed)
            _, problems = await self.rebuild()
            found = await self.contents()
            missing = {key for bucket, key in self.remembered if (bucket, key) not in found}
            self.assertLessEqual(missing, self.small, way)
            told = {each.get("key") for each in problems}
            if not any("damaged" in each["what"] for each in problems):
                self.assertLessEqual(missing, told, way)
            await self.as_before(without=frozenset(missing))
            # What was set aside is not needed any more.
            for path in self.path.glob("set-aside-*"):
                for blob in path.glob("blobs/*/*"):
                    blob.rename(self.path / blob.relative_to(path))
                lose(path)
            await self.index.close()
