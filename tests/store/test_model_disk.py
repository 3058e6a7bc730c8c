# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The layout on disk against a model: processes that die, and a disk whose power is cut.
"""

from pathlib import Path
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.cases import SyncCase
from tests.store.machine import try_machine
from tests.store.operations import StoreMachine
from tests.store.seams import DiskSeams, PowerCutSeams


class DiskModelTests(SyncCase):
    """
    SQLite and files.
    """

    def setUp(self) -> None:
        """
        No example was tried yet.
        """
        self.examples = 0

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
        case = self

        class DiskMachine(StoreMachine):
            """
            Processes with connections and files of their own.
            """

            def make_seams(self) -> DiskSeams:
                """
                A fresh directory.
                """
                return DiskSeams(case.fresh())

        try_machine(DiskMachine, 12)

    def test_power(self) -> None:
        """
        Two processes over a disk whose syncs fail, and whose power is cut.
        """
        case = self

        class PowerCutMachine(StoreMachine):
            """
            Processes that all die with the power.
            """

            seams: PowerCutSeams

            def make_seams(self) -> PowerCutSeams:
                """
                A fresh disk.
                """
                return PowerCutSeams(case.fresh())

            @rule(seed=st.integers(0, 1 << 30))
            def cut(self, seed: int) -> None:
                """
                Cut the power.
                """
                for process in self.processes:
                    process.kill()
                self.dead += self.processes
                self.seams.cut(Random(seed))
                self.processes = [self.start(worker) for worker in range(self.COUNT)]

            @rule(failing=st.booleans())
            def fail(self, failing: bool) -> None:
                """
                Have syncs fail, or work again.
                """
                self.seams.device.failing = failing

            def check(self) -> None:
                """
                Look at everything when syncs work.
                """
                self.seams.device.failing = False
                super().check()

        try_machine(PowerCutMachine, 12)
