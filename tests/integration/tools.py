# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the tests need from outside: programs and free ports.

Nothing is built here: ``make tools`` builds what no package offers, into a folder outside the tree.
"""

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn
from unittest import SkipTest

_BUILT = "make tools"
_RECIPES = {
    "aws": "make test",
    "bao": _BUILT,
    "kes": _BUILT,
    "mc": _BUILT,
    "minio": _BUILT,
    "mkfs.ext4": "apt-get install e2fsprogs",
    "haproxy": "apt-get install haproxy",
    "nginx": "apt-get install nginx-light",
    "slapadd": "apt-get install slapd",
    "systemd-analyze": "apt-get install systemd",
}
#: Clients without which the matrix of clients says little; each of them is required in CI.
CORE = frozenset({"boto3-2024", "curl", "rclone", "s3cmd"})
_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_HOST = "127.0.0.1"
_PORTS = range(20000, 32768)  # below those that the kernel hands out
_ATTEMPTS = 100


def require(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """
    Where a program is.

    :raises SkipTest: It is nowhere.
    :raises AssertionError: The same, when ``KYPELLO_REQUIRE`` is set.
    """
    found = _find(name, environment)
    if found is None:
        missing(name, environment)
    return found


def missing(name: str, environment: Mapping[str, str] = os.environ) -> NoReturn:
    """
    Give up a test for want of a program, and tell how to get it.

    :raises SkipTest: The program is optional.
    :raises AssertionError: ``KYPELLO_REQUIRE`` is set, so nothing is optional.
    """
    recipe = _RECIPES.get(name, f"apt-get install {name}")
    message = f"{name} is not installed: {recipe}"
    raise AssertionError(message) if environment.get("KYPELLO_REQUIRE") else SkipTest(message)


def client(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """
    The folder or program of a client that ``.ci/clients`` installs.

    :raises SkipTest: It is not there.
    :raises AssertionError: The same, when ``KYPELLO_REQUIRE`` is set and the client is one that
        the tests cannot do without.
    """
    path = _tools(environment) / "clients" / name
    # The stamp tells that it is there as a whole.
    if path.exists() and path.with_name(f".{name}").exists():
        return path.absolute()
    message = f"{name} is not installed: .ci/clients {name}"
    required = name in CORE and environment.get("KYPELLO_REQUIRE")
    raise AssertionError(message) if required else SkipTest(message)


def free_port() -> int:
    """
    A port of loopback that nobody listens on.

    :raises OSError: None was found.
    """
    for port in random.sample(_PORTS, _ATTEMPTS):
        with suppress(OSError), socket.create_server((_HOST, port)):
            return port
    raise OSError("no port is free")


def _tools(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("KYPELLO_TOOLS") or Path.home() / ".cache" / "kypello-tools")


def _find(name: str, environment: Mapping[str, str]) -> Path | None:
    built = _tools(environment) / name
    if os.access(built, os.X_OK):
        return built.absolute()
    path = os.pathsep.join((environment.get("PATH", os.defpath), *_SYSTEM))
    found = shutil.which(name, path=path)
    if found is None or (name == "mc" and _is_a_file_manager(found)):
        return None
    return Path(found).absolute()


def _is_a_file_manager(path: str) -> bool:
    # Midnight Commander has the same name.
    printed = subprocess.run(
        [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    return b"Midnight" in printed.stdout
