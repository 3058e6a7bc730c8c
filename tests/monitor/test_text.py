# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.text``.
"""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kypello.monitor.text import Family, by_label, gauge, render
from tests.cases import SyncCase

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))


class TextTests(SyncCase):
    """
    What Prometheus' own parser reads.
    """

    def test_bytes(self) -> None:
        """
        The text is this, byte for byte.
        """
        families = [gauge("a", "Half a\nline.", 1.5), gauge("b", "Whole.", 2**63)]
        self.assertEqual(
            render(families, {"server": "x"}),
            b'# HELP a Half a\\nline.\n# TYPE a gauge\na{server="x"} 1.5\n'
            b'# HELP b Whole.\n# TYPE b gauge\nb{server="x"} 9223372036854775808\n',
        )

    def test_empty(self) -> None:
        """
        What has no samples is not told.
        """
        self.assertEqual(render([by_label("a", "gauge", "Nothing.", "x", {})], {}), b"")

    @given(_TEXTS, st.floats(allow_nan=False) | st.integers(0, 2**53))
    def test_round_trip(self, text: str, value: float) -> None:
        """
        Whatever stands in a label, it and the number come back.
        """
        families = [Family("a", "gauge", text, [("", {"x": text, "y": "z"}, value)])]
        written = render(families, {"server": text}).decode()
        (family,) = text_string_to_metric_families(written)
        (sample,) = family.samples
        self.assertEqual(sample.labels, {"server": text, "x": text, "y": "z"})
        self.assertEqual(sample.value, value)
