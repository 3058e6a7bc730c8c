# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The layout on disk against a model: processes that die, and a disk whose power is cut.
"""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import rule

from kypello.store.changes import shared_table
from tests.cases import SyncCase
from tests.store.machine import ALL, try_machine
from tests.store.operations import StoreMachine
from tests.store.processes import GROUPS, LARGE
from tests.store.seams import DiskSeams, PowerCutSeams, Seams


class DiskMachine(StoreMachine):
    """
    Processes with connections and files of their own.

    :cvar fresh: Gives a directory for one example.
    """

    fresh: ClassVar[Callable[[], Path]]

    def make_seams(self) -> Seams:
        """
        A fresh directory.
        """
        return DiskSeams(type(self).fresh())


class PowerCutMachine(DiskMachine):
    """
    Processes that all die with the power.
    """

    seams: PowerCutSeams
    syncs_failed = False

    def make_seams(self) -> Seams:
        """
        A fresh disk.
        """
        return PowerCutSeams(type(self).fresh())

    @rule(seed=st.integers(0, 1 << 30))
    def cut(self, seed: int) -> None:
        """
        Cut the power.
        """
        for process in self.processes:
            process.kill()
        self.dead += self.processes
        self.seams.cut(Random(seed))
        os.close(self.table)
        self.table = shared_table(self.COUNT, GROUPS)
        self.processes = [self.start(worker) for worker in range(self.COUNT)]

    @rule(failing=st.booleans())
    def fail(self, failing: bool) -> None:
        """
        Have syncs fail, or work again.
        """
        self.seams.device.failing = failing
        self.syncs_failed |= failing

    def forgiving(self) -> bool:
        """
        Operations may fail with the disk, too.
        """
        return self.syncs_failed or super().forgiving()

    def check(self) -> None:
        """
        Look at everything when syncs work.
        """
        self.seams.device.failing = False
        super().check()


#: What is done, with so many steps of it, before the power is cut.
_BEFORE_CUTS: tuple[Callable[[PowerCutMachine, int], None], ...] = (
    lambda machine, steps: machine.put(0, "a", "k", LARGE, False, steps),
    lambda machine, steps: machine.put(0, "a", "k", "s", False, steps),
    lambda machine, steps: machine.create_bucket(0, "b", steps),
    lambda machine, steps: machine.change_settings(0, "a", steps),
    lambda machine, steps: machine.put_part(0, 0, 1, LARGE, steps),
    lambda machine, steps: machine.complete(0, 0, "1", steps),
    lambda machine, steps: machine.delete(0, "a", "k", steps),
    lambda machine, steps: machine.set_versioning(0, "a", "Enabled", steps),
    lambda machine, steps: machine.put(0, "a", "k", LARGE, False, steps),
    lambda machine, steps: machine.put(0, "a", "k", "s", False, steps),
    lambda machine, steps: machine.delete(0, "a", "k", steps),
    lambda machine, steps: machine.delete_version(0, "a", "k", 1, steps),
    lambda machine, steps: machine.tag(0, "a", "k", 1, steps),
    lambda machine, steps: machine.sweep(0, steps),
    lambda machine, steps: machine.delete_bucket(0, "b", steps),
)


class DiskModelTests(SyncCase):
    """
    SQLite and files.
    """

    def setUp(self) -> None:
        """
        Each example has a directory of its own.
        """
        self.examples = 0
        DiskMachine.fresh = self.fresh

    def fresh(self) -> Path:
        """
        A directory for one example.
        """
        self.examples += 1
        return Path(self.mktemp()).absolute()

    def test_processes(self) -> None:
        """
        Two processes over the same data, that die at any step.
        """
        try_machine(DiskMachine, 20)

    def test_power(self) -> None:
        """
        Two processes over a disk whose syncs fail, and whose power is cut.
        """
        try_machine(PowerCutMachine, 20)

    def test_each_cut(self) -> None:
        """
        The power is cut after each step of each write, and after each write.
        """
        machine = PowerCutMachine()
        try:
            machine.begin()
            seed = 0
            for work in _BEFORE_CUTS:
                ended = False
                for steps in range(40):
                    machine.create_upload(0, "a", "u", ALL)
                    if ended:
                        break
                    seed += 1
                    work(machine, steps)
                    ended = not machine.processes[0].tasks
                    machine.cut(seed)
                    machine.check()
                self.assertTrue(ended)
        finally:
            machine.teardown()
