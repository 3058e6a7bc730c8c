# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where secrets come from: passed in, so that this layer is a pure function of its arguments.
"""

from collections.abc import Callable
from typing import TypeAlias

#: Gives that many unpredictable bytes: ``os.urandom`` outside of tests.
Random: TypeAlias = Callable[[int], bytes]
