# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The measurements themselves: that they measure, judge, and leave nothing behind.
"""

import os
import signal
import subprocess
import sys
import time
from hashlib import md5
from pathlib import Path

from bench.filling import fill
from bench.pairs import Figure, Sample, Target, compare
from bench.processes import tree
from bench.stage import Stage
from tests.cases import SyncCase


class JudgingTests(SyncCase):
    """
    How figures are compared with targets.
    """

    def test_high(self) -> None:
        """
        A value that has to be high misses below, and reaches more above.
        """
        target = Target(1.0, 2.0)
        verdicts = [target.verdict(value) for value in (0.9, 1.0, 1.9, 2.0)]
        self.assertEqual(verdicts, ["MISSED", "reached", "reached", "stretch reached"])

    def test_low(self) -> None:
        """
        One that has to be low is judged the other way round.
        """
        target = Target(10.0, least=True)
        self.assertEqual([target.verdict(value) for value in (11, 10)], ["MISSED", "reached"])

    def test_pairs(self) -> None:
        """
        What is compared is the median of the ratios within pairs, and the first pair is left out.
        """
        ours = iter([100.0, 1.0, 4.0, 9.0])
        theirs = iter([1.0, 1.0, 2.0, 3.0])
        result = compare(
            "name",
            lambda: Sample(next(ours), 2.0),
            lambda: Sample(next(theirs)),
            reference="it",
            unit="per s",
            cpu_unit="s",
            pairs=3,
            target=Target(3.0),
        )
        self.assertEqual((result.ratio, result.spread, result.ours), (2.0, (1.0, 3.0), 4.0))
        self.assertEqual((result.our_cpu, result.their_cpu), (2.0, None))
        self.assertEqual(result.as_json()["verdict"], "MISSED")
        self.assertIn("MISSED", result.line())

    def test_figure(self) -> None:
        """
        A figure without a target is judged by nobody.
        """
        figure = Figure("memory", 12345.678, "MiB", None, {"other": 1.0, "unknown": None})
        self.assertEqual(figure.as_json()["value"], 12350.0)
        self.assertEqual(figure.line(), "memory: 1.235e+04 MiB, other 1")


class FillingTests(SyncCase):
    """
    Buckets that are filled while no server runs.
    """

    def test_used(self) -> None:
        """
        A server lists what is in them, tells about it, replaces and removes it.
        """
        root = Path(self.mktemp()).absolute()
        root.mkdir(parents=True)
        stage = Stage(root, None, 1)
        with stage.ours() as ours:
            ours.store("template", b"x")
        names = [f"made{number:04}" for number in range(1500)]
        fill(root / "data", ours.bucket, "template", names)
        with stage.ours() as ours:
            _, page = ours.ask(ours.message("GET", "?list-type=2&prefix=made&start-after=made0999"))
            self.assertEqual(page.count(b"<Size>1</Size>"), 500)
            self.assertEqual(page.count(md5(b"x").hexdigest().encode()), 500)
            head, _ = ours.ask(ours.message("GET", "template"))
            self.assertIn(b"aes256", head.lower())
            for name in names[::300]:
                ours.send([ours.message("HEAD", name)])
                ours.store(name, b"other")
                self.assertEqual(ours.ask(ours.message("GET", name))[1], b"other")
                ours.ask(ours.message("DELETE", name))


class RunTests(SyncCase):
    """
    Real runs.
    """

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """
        Begin one in a directory of the test.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", "--directory", str(self.folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        return process

    def test_terminated(self) -> None:
        """
        A run that is terminated ends its servers and removes its files.
        """
        self.assertEqual(self.end(signal.SIGTERM), [])
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_killed(self) -> None:
        """
        The servers of a run that is killed end, too.
        """
        self.assertEqual(self.end(signal.SIGKILL), [])

    def end(self, how: signal.Signals) -> list[int]:
        """
        Begin a run, end it when its server runs, and give the processes that are left after a
        while.
        """
        process = self.start("--only", "small")
        family = [process.pid]
        for _ in range(200):
            family = tree(process.pid)
            if len(family) > 1 or process.poll() is not None:
                break
            time.sleep(0.1)
        self.assertGreater(len(family), 1)
        process.send_signal(how)
        printed, _ = process.communicate(timeout=50)
        self.assertNotEqual(process.returncode, 0, printed)
        left = family
        for _ in range(200):
            left = [pid for pid in family if Path(f"/proc/{pid}").exists()]
            if not left:
                break
            time.sleep(0.1)
        return left
