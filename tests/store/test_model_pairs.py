# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Every two writes at once: one of them stops after each of its steps, while the other is done.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tests.cases import SyncCase
from tests.store.machine import ALL
from tests.store.operations import StoreMachine
from tests.store.processes import LARGE


def give_up(machine: StoreMachine, which: int, steps: int) -> None:
    """
    Sweep by a fresh process, which looks everywhere, after days.
    """
    machine.wait(True)
    machine.kill(which)
    machine.sweep(which, steps)


#: Something that a process does, with so many steps of it.
Work = Callable[[StoreMachine, int, int], None]

#: No work takes more steps.
_MOST = 60

WORKS: dict[str, Work] = {
    "large": lambda machine, which, steps: machine.put(which, "a", "k", LARGE, False, steps),
    "small": lambda machine, which, steps: machine.put(which, "a", "k", "s", False, steps),
    "fresh": lambda machine, which, steps: machine.put(which, "a", "k", "s", True, steps),
    "delete": lambda machine, which, steps: machine.delete(which, "a", "k", steps),
    "part": lambda machine, which, steps: machine.put_part(which, 0, 1, LARGE, steps),
    "other part": lambda machine, which, steps: machine.put_part(which, 0, 3, "s", steps),
    "complete": lambda machine, which, steps: machine.complete(which, 0, "1", steps),
    "complete odd": lambda machine, which, steps: machine.complete(which, 0, "2", steps),
    "abort": lambda machine, which, steps: machine.abort(which, 0, steps),
    "make": lambda machine, which, steps: machine.create_bucket(which, "a", steps),
    "unmake": lambda machine, which, steps: machine.delete_bucket(which, "a", steps),
    "settings": lambda machine, which, steps: machine.change_settings(which, "a", steps),
    "open": lambda machine, which, steps: machine.open(which, "a", "k", steps),
    "give up": give_up,
    "sweep": lambda machine, which, steps: machine.sweep(which, steps),
}


#: The same in a bucket with versions.
VERSIONED: dict[str, Work] = {
    **{name: WORKS[name] for name in ("large", "small", "fresh", "delete", "complete", "open")},
    "enable": lambda machine, which, steps: machine.set_versioning(which, "a", "Enabled", steps),
    "suspend": lambda machine, which, steps: machine.set_versioning(which, "a", "Suspended", steps),
    "remove newest": lambda machine, which, steps: machine.delete_version(
        which, "a", "k", 1, steps
    ),
    "remove older": lambda machine, which, steps: machine.delete_version(which, "a", "k", 2, steps),
    "remove null": lambda machine, which, steps: machine.delete_version(which, "a", "k", 0, steps),
    "tag newest": lambda machine, which, steps: machine.tag(which, "a", "k", 1, steps),
    "tag null": lambda machine, which, steps: machine.tag(which, "a", "k", 0, steps),
    "open older": lambda machine, which, steps: machine.open_version(which, "a", "k", 2, steps),
    "unmake": WORKS["unmake"],
}


def versioned(marked: bool) -> StoreMachine:
    """
    Processes with a bucket with versions, and an upload of two parts.

    :param marked: Whether there is a delete marker above them.
    """
    machine = prepared(True)
    machine.set_versioning(0, "a", "Enabled", ALL)
    machine.put(0, "a", "k", "s", False, ALL)
    machine.put(0, "a", "k", LARGE, False, ALL)
    if marked:
        machine.delete(0, "a", "k", ALL)
    return machine


def prepared(key: bool) -> StoreMachine:
    """
    Processes with a bucket and an upload of two parts.

    :param key: Whether there is an object, too, and some garbage.
    """
    machine = StoreMachine()
    machine.begin()
    machine.create_upload(0, "a", "k", ALL)
    for number in (1, 2):
        machine.put_part(0, 0, number, "s", ALL)
    if key:
        for _ in range(2):
            machine.put(0, "a", "k", LARGE, False, ALL)
    return machine


class PairTests(SyncCase):
    """
    Two processes, each of which does one thing.
    """

    def pairs(
        self, works: dict[str, Work], prepare: Callable[[], StoreMachine], stride: int
    ) -> Iterator[StoreMachine]:
        """
        Processes that have begun two works: the first one has stopped after some steps, and the
        second one is done.
        """
        for first, begin in works.items():
            for second, meanwhile in works.items():
                for steps in range(1, _MOST, stride):
                    machine = prepare()
                    begin(machine, 0, steps)
                    ended = not machine.processes[0].tasks
                    meanwhile(machine, 1, ALL)
                    machine.history.told.insert(0, f"{first}, {steps} steps; {second}")
                    yield machine
                    machine.check()
                    if ended:
                        break
                else:
                    self.fail(f"{first} does not end")

    def test_finished(self) -> None:
        """
        The first one comes to its end after the second one.
        """
        for key in (False, True):
            for machine in self.pairs(WORKS, partial(prepared, key), 1):
                machine.processes[0].settle()

    def test_versions_finished(self) -> None:
        """
        The first one comes to its end after the second one, in a bucket with versions.
        """
        for marked in (False, True):
            for machine in self.pairs(VERSIONED, partial(versioned, marked), 1 + marked):
                machine.processes[0].settle()

    def test_versions_killed(self) -> None:
        """
        The process of the first one is killed, in a bucket with versions.
        """
        for machine in self.pairs(VERSIONED, partial(versioned, True), 3):
            machine.kill(0)

    def test_killed(self) -> None:
        """
        The process of the first one is killed.
        """
        for machine in self.pairs(WORKS, partial(prepared, True), 2):
            machine.kill(0)

    def test_swept(self) -> None:
        """
        A process sweeps while it is at work itself: it does not give that up.
        """
        for begin in WORKS.values():
            for steps in range(1, _MOST):
                machine = prepared(True)
                begin(machine, 0, steps)
                ended = not machine.processes[0].tasks
                if not machine.processes[0].sweeping:
                    machine.sweep(0, ALL)
                machine.check()
                if ended:
                    break
