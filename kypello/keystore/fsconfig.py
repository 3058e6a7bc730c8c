# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The section ``keystore.fs`` of KES's configuration, with what seals the files.
"""

from pathlib import Path

from attrs import field, frozen

from kypello.document import Section, Value
from kypello.errors import KeyStoreFailed

#: The longest passphrase, or key file, in bytes.
MAX_PASSPHRASE = 64 * 1024


@frozen
class Passphrase:
    """
    What files are sealed under.

    :ivar text: The passphrase, unless it is in a file.
    :ivar file: Its bytes count, without line ends behind them; so it can be a key file as well.
    """

    text: str = field(default="", repr=False)
    file: Path | None = None

    def read(self) -> bytes:
        """
        The passphrase; blocking.

        :raises KeyStoreFailed: It cannot be read, or there is none.
        """
        if self.file is None:
            return self.text.encode()
        try:
            with self.file.open("rb") as file:
                found = file.read(MAX_PASSPHRASE + 1)
        except OSError as error:
            raise KeyStoreFailed(f"the passphrase: {error.strerror}: {self.file}") from error
        if len(found) > MAX_PASSPHRASE:
            raise KeyStoreFailed(f"the passphrase: longer than any: {self.file}")
        found = found.rstrip(b"\r\n")
        if not found:
            raise KeyStoreFailed(f"the passphrase: nothing is in {self.file}")
        return found


@frozen
class FSSettings:
    """
    A directory of files.

    :ivar path: The directory; made at the start when it is missing.
    :ivar passphrase: ``None`` for files that are not sealed.
    """

    path: Path
    passphrase: Passphrase | None = None

    @property
    def where(self) -> str:
        """
        Where the keys are, for people.
        """
        return str(self.path)

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """
        Files that nobody else may read.
        """
        passphrase = self.passphrase
        return () if passphrase is None or passphrase.file is None else (passphrase.file,)


def read_fs(value: Value) -> FSSettings:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly("path", *_SOURCES)
    return FSSettings(Path(section["path"].required("a directory")), _passphrase(value, section))


def _passphrase(value: Value, section: Section) -> Passphrase | None:
    given = [name for name in _SOURCES if name in section]
    if not given:
        return None
    if len(given) > 1:
        value.mistake(f"must have one passphrase, not {' and '.join(given)}")
    source = section[given[0]]
    # An empty one is a variable or a line that was forgotten: the files would lie there in clear.
    text = source.required(_SOURCES[given[0]])
    if given[0] == "passphrase":
        return Passphrase(text)
    if given[0] == "passphrase_file":
        return Passphrase(file=Path(text))
    folder = source.variable("CREDENTIALS_DIRECTORY")
    if not folder:
        source.mistake("needs a service of systemd, which sets CREDENTIALS_DIRECTORY")
    return Passphrase(file=Path(folder or "") / text)


_SOURCES = {
    "passphrase": "a passphrase",
    "passphrase_file": "the path of a file",
    "passphrase_credential": "the name of a credential of systemd",
}
