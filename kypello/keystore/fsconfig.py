# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The section ``keystore.fs`` of KES's configuration.
"""

from pathlib import Path

from attrs import frozen

from kypello.document import Value


@frozen
class FSSettings:
    """
    A directory of files.

    :ivar path: The directory; made at the start when it is missing.
    """

    path: Path

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """
        return str(self.path)


def read_fs(value: Value) -> FSSettings:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly("path")
    return FSSettings(Path(section["path"].required("a directory")))
