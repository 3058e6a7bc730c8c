# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Processes over the same data that begin, go on and die as hypothesis likes it.

Whatever is answered must be explained by the model.  In the end everything is looked at, and
after sweeps nothing may be left but what lives.
"""

import hashlib
import os
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kypello.store.changes import shared_table
from tests.store.faults import spaces_wrong, whats_wrong
from tests.store.history import History, Operation
from tests.store.processes import GROUPS, Process, Task
from tests.store.seams import MemorySeams, Seams, drive

#: How many examples are tried, in place of the few and always the same of a usual run.
EXAMPLES = int(os.environ.get("KYPELLO_MODEL_EXAMPLES", "0"))

#: With more explanations of what has happened, everything is looked at, which leaves few.
_CLEAR = 64

#: More steps than anything takes.
ALL = 10_000

PROCESSES = st.integers(0, 1)
STEPS = st.one_of(st.just(ALL), st.integers(1, 14))


def profile(examples: int, steps: int = 40) -> settings:
    """
    How many examples are tried, of how many rules each.
    """
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )


class Machine(RuleBasedStateMachine):
    """
    Several processes over the same data.

    :cvar COUNT: How many.
    """

    COUNT: ClassVar[int] = 2

    def __init__(self) -> None:
        """
        Start all processes.
        """
        super().__init__()
        self.seams = self.make_seams()
        self.clock, self.history = Clock(), History()
        self.clock.advance(1_700_000_000)
        self.count = 0
        self.broken = self.looking = False
        self.half_deleted: list[str] = []
        self.ids: dict[str, tuple[str, str, str]] = {}
        self.versions: dict[str, str] = {}
        self.dead: list[Process] = []
        self.table = shared_table(self.COUNT, GROUPS)
        self.processes = [self.start(worker) for worker in range(self.COUNT)]

    def make_seams(self) -> Seams:
        """
        Where the data is.
        """
        return MemorySeams()

    def start(self, worker: int) -> Process:
        """
        Start a process.
        """
        index, blobs = self.seams.open()
        return Process(
            index,
            blobs,
            self.clock,
            self.random,
            self.history,
            worker,
            self.COUNT,
            self.table,
            self.versions,
            self.forgiving,
        )

    def forgiving(self) -> bool:
        """
        Whether an operation may fail without a reason of its own.
        """
        return False

    def random(self, size: int) -> bytes:
        """
        Bytes like no others, the same in each run.
        """
        self.count += 1
        return hashlib.shake_128(b"%d" % self.count).digest(size)

    def label(self, size: str = "s") -> str:
        """
        A fresh label.
        """
        self.count += 1
        return f"{size}{self.count}."

    def run(
        self,
        which: int,
        work: Callable[[Process, Task], Coroutine[Any, Any, Any]],
        steps: int = ALL,
    ) -> None:
        """
        Have a process begin something, and take some steps of it.
        """
        process = self.processes[which % self.COUNT]
        try:
            if len(self.history.worlds) > _CLEAR and not self.looking:
                self.check()
            if len(process.tasks) > 2:
                process.settle()
            task = process.begin(lambda task: work(process, task))
            for _ in range(steps):
                if task.work.called or not process.gate.parked:
                    break
                process.gate.go()
            self.reap(process)
        except BaseException:
            self.broken = True
            raise

    def reap(self, process: Process) -> None:
        """
        Raise what was raised by what has ended.
        """
        done = [task for task in process.tasks if task.work.called]
        process.tasks[:] = [task for task in process.tasks if not task.work.called]
        for task in done:
            drive(_outcome(task.work))

    def do(
        self,
        which: int,
        operation: Operation,
        call: Callable[[Process], Coroutine[Any, Any, Hashable]],
        steps: int = ALL,
    ) -> None:
        """
        Have a process begin an operation of the model, and take some steps of it.
        """
        self.run(which, lambda process, task: process.answer(task, operation, call(process)), steps)

    @rule(which=PROCESSES, steps=STEPS)
    def sweep(self, which: int, steps: int) -> None:
        """
        Remove leftovers, unless that is under way.
        """
        process = self.processes[which % self.COUNT]
        if not process.sweeping:
            self.run(which, lambda p, _: p.sweep(), steps)

    @rule(which=PROCESSES, parked=st.integers(0, 5), steps=st.integers(1, 8))
    def go_on(self, which: int, parked: int, steps: int) -> None:
        """
        Take steps of something that was begun.
        """
        process = self.processes[which % self.COUNT]
        try:
            for _ in range(steps):
                if process.gate.parked:
                    process.gate.go(parked)
            self.reap(process)
        except BaseException:
            self.broken = True
            raise

    @rule(which=PROCESSES)
    def kill(self, which: int) -> None:
        """
        Kill a process, and start one that takes its place.
        """
        which %= self.COUNT
        process = self.processes[which]
        process.kill()
        self.dead.append(process)
        self.processes[which] = self.start(which)

    @rule(days=st.integers(0, 2))
    def wait(self, days: int) -> None:
        """
        Time passes.
        """
        self.clock.advance(1 + days * 24 * 3600)

    @rule()
    def look(self) -> None:
        """
        Let everything come to its end, and look at all there is.
        """
        try:
            self.check()
        except BaseException:
            self.broken = True
            raise

    def check(self) -> None:
        """
        Whatever lives is as the model says, and nothing else is left.
        """
        self.looking = True
        for process in self.processes:
            process.settle()
            for reader in process.readers:
                reader.opened.close()
            process.readers.clear()
        for _ in range(3):
            for process in self.processes:
                process.begin(lambda _, p=process: p.sweep())
                process.settle()
        self.half_deleted.clear()
        index, blobs = self.seams.open()
        wrong = drive(whats_wrong(index, blobs)) + drive(spaces_wrong(index))
        assert not wrong, "\n".join([*self.history.told, f"left over or missing: {wrong}"])
        for worker in range(self.COUNT):
            self.look_at_everything(worker)
        self.looking = False

    def look_at_everything(self, worker: int) -> None:
        """
        Compare all that can be seen with the model.
        """

    def teardown(self) -> None:
        """
        Look at everything, and release it.
        """
        try:
            if not self.broken:
                self.check()
        finally:
            self.seams.close()
            os.close(self.table)


def try_machine(machine: type[Machine], examples: int, steps: int = 40) -> None:
    """
    Try some examples.

    :raises AssertionError: One of them has failed; tells how.
    """
    try:
        run_state_machine_as_test(machine, settings=profile(examples, steps))
    except BaseException as error:
        # Trial does not print these.
        notes = "\n".join(getattr(error, "__notes__", ()))
        raise AssertionError(f"{error}\n{notes}") from error


async def _outcome(work: "Deferred[Any]") -> Any:
    return await work
