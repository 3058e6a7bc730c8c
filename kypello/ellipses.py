# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Patterns such as ``https://kes-{1...4}:7373``, which stand for several endpoints.
"""

import re
from itertools import product

_RANGE = re.compile(r"\{(\d+)\.\.\.(\d+)\}")

#: How many endpoints one pattern may stand for.
_MOST = 1024


def expand(pattern: str) -> list[str]:
    """
    All that a pattern stands for; itself when it holds no range.

    With several ranges the last one varies slowest, as in the original.  A range whose start
    has a leading zero, or whose end has, is padded to the width of its end.

    :raises ValueError: A brace is left over, a range runs backwards, or there are too many.
    """
    pieces = _RANGE.split(pattern)
    texts = pieces[::3]
    if any("{" in text or "}" in text or "..." in text for text in texts):
        raise ValueError("ranges are written {1...4}")
    ranges = [_numbers(*pair) for pair in zip(pieces[1::3], pieces[2::3], strict=True)]
    count = 1
    for numbers in ranges:
        count *= len(numbers)
    if count > _MOST:
        raise ValueError(f"a pattern stands for at most {_MOST} endpoints")
    expanded = []
    for chosen in product(*reversed(ranges)):
        parts = [texts[0]]
        for number, text in zip(reversed(chosen), texts[1:], strict=True):
            parts += [number, text]
        expanded.append("".join(parts))
    return expanded


def _numbers(first: str, last: str) -> list[str]:
    start, stop = int(first), int(last)
    if start > stop:
        raise ValueError(f"the range {{{first}...{last}}} runs backwards")
    if stop - start >= _MOST:
        raise ValueError(f"a pattern stands for at most {_MOST} endpoints")
    padded = (first.startswith("0") and len(first) > 1) or last.startswith("0")
    width = len(last) if padded else 0
    return [str(number).rjust(width, "0") for number in range(start, stop + 1)]
