# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Memory that the processes of a server share.
"""

import ctypes
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Lock each page when it is first used (mlock2(2)).
_MLOCK_ONFAULT = 1


def make_shared_memory(name: str, size: int, content: bytes = b"") -> int:
    """
    Make some, full of zeros.

    :param name: For people who look at the system.
    :param size: In bytes.
    :param content: What it begins with instead.
    :return: A file descriptor for the processes to inherit, and to map.
    :raises OSError: The system has no memory for it.
    """
    descriptor = os.memfd_create(f"kypello-{name}")
    try:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, content, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """
    Keep the other processes out of some, for a short while.

    :param descriptor: Of it; negative when no other process has it.
    """
    if descriptor < 0:
        yield
        return
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def keep_to_ourselves(memory: mmap.mmap) -> None:
    """
    Keep what has secrets in it out of core dumps, and out of swap where this process may lock so
    much memory.
    """
    memory.madvise(mmap.MADV_DONTDUMP)
    mlock2: Any = getattr(ctypes.CDLL(None), "mlock2", None)
    if mlock2 is not None:
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        mlock2(ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), _MLOCK_ONFAULT)
