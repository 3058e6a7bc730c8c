# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The limits of the machine that measurements are compared with.
"""

import os
from hashlib import md5
from pathlib import Path
from time import perf_counter

from bench.pairs import Sample


def one_core_md5(body: bytes) -> Sample:
    """
    MD5 of a body by one thread, in GB/s: the wall of a single upload whose ETag is one.
    """
    rounds = 3
    started = perf_counter()
    for _ in range(rounds):
        md5(body, usedforsecurity=False).digest()
    return Sample(rounds * len(body) / 1e9 / (perf_counter() - started))


def durable_files(directory: Path, body: bytes) -> Sample:
    """
    Create, write, sync, rename and sync the directory, one file after the other, per second.

    :param directory: Made if it is missing; on the disk to measure.
    """
    directory.mkdir(exist_ok=True)
    count = 400
    folder = os.open(directory, os.O_RDONLY)
    started = perf_counter()
    for number in range(count):
        name = directory / f"{number}.new"
        file = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.write(file, body)
        os.fdatasync(file)
        os.close(file)
        name.rename(directory / str(number))
        os.fsync(folder)
    elapsed = perf_counter() - started
    os.close(folder)
    return Sample(count / elapsed)
