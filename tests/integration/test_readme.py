# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The client lines of the README, run as they stand.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess, base_environment

_README = Path(__file__).parents[2] / "README.md"


class ReadmeTests(SyncCase):
    """
    ``README.md``.
    """

    def test_clients(self) -> None:
        """
        Each client encrypts an object on a server without any setting.
        """
        work = Path(self.mktemp()).resolve()
        work.mkdir(parents=True)
        server = ServerProcess(work / "data")
        server.start()
        self.addCleanup(server.stop)
        text = _README.read_text(encoding="utf-8").replace("127.0.0.1:9000", server.endpoint[7:])
        text = text.partition("\n## Use it\n")[2].partition("\n## ")[0]
        shell = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        python = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.assertEqual((len(shell), len(python)), (3, 1))
        (work / "README.md").write_text(text, encoding="utf-8")
        folders = [str(tools.require("mc").parent), str(Path(sys.executable).parent)]
        for command in (
            ["bash", "-euo", "pipefail", "-c", "\n".join(shell)],
            [sys.executable, "-c", "".join(python)],
        ):
            done = subprocess.run(
                command,
                cwd=work,
                env={
                    **base_environment(),
                    "HOME": str(work),
                    "MINIO_ROOT_USER": ACCESS_KEY,
                    "MINIO_ROOT_PASSWORD": SECRET_KEY,
                    "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=90,
                check=False,
            )
            printed = done.stdout.decode()
            self.assertEqual(done.returncode, 0, f"{printed}\n{server.log}")
        self.assertEqual(printed, "AES256\n")
