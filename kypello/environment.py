# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Settings as variables: MinIO's names, ours, and values kept in files.
"""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeAlias

from attrs import define, field

#: Gives the text of a file; ``None`` when there is none.  May raise ``OSError`` or
#: ``UnicodeDecodeError``.
ReadText: TypeAlias = Callable[[str], str | None]

_MINIO, _KYPELLO = "MINIO_", "KYPELLO_"
_ENV_FILE = "MINIO_CONFIG_ENV_FILE"
_SECRETS = "/run/secrets/"
_ON = frozenset({"on", "true", "1", "t", "y", "yes", "enabled"})
_OFF = frozenset({"off", "false", "0", "f", "n", "no", "disabled", ""})

#: How much a name is like the one that may be meant, at least: 1 is the same.
_LIKENESS = 0.85


@define(eq=False)
class Environment:
    """
    The variables of a process, and what is wrong with them.

    A variable is asked for by MinIO's name; ``KYPELLO_X`` stands for ``MINIO_X``.

    :ivar mistakes: Each a sentence that says what to change.
    :ivar warnings: What is ignored, or should be changed one day.
    :ivar _spelt: The name by which each variable was set, by MinIO's.
    :ivar _asked: What somebody has asked for, set or not.
    """

    _variables: dict[str, str] = field(repr=False)
    _read: ReadText
    mistakes: list[str] = field(factory=list)
    warnings: list[str] = field(factory=list)
    _spelt: dict[str, str] = field(init=False, factory=dict)
    _asked: set[str] = field(init=False, factory=set)

    @classmethod
    def load(cls, variables: Mapping[str, str], read: ReadText) -> "Environment":
        """
        Merge the variables with those of the file that ``MINIO_CONFIG_ENV_FILE`` names, which
        count more.
        """
        loaded = cls({}, read)
        loaded._merge(variables)
        path = loaded.text(_ENV_FILE)
        if path:
            loaded._merge(loaded._parse_file(path))
        return loaded

    def text(self, name: str) -> str | None:
        """
        The value of a variable; ``None`` when it is not set.
        """
        self._asked.add(name)
        return self._variables.get(name)

    def given(self, *names: str) -> list[str]:
        """
        Those of several variables that are set, if only to nothing.
        """
        self._asked.update(names)
        return [name for name in names if name in self._variables]

    def named(self, prefix: str) -> list[str]:
        """
        All variables that begin so, sorted.
        """
        found = sorted(name for name in self._variables if name.startswith(prefix))
        self._asked.update(found)
        return found

    def misspelt(self) -> list[str]:
        """
        Sentences about variables that nobody has asked for, and whose names are like one that
        somebody did; or that are about keys, which nobody should have to guess about.

        Called when all is read.
        """
        told = []
        for name, meant in self._strangers():
            if meant is not None:
                told.append(f"{name} is unknown, so it is ignored: is {meant} meant?")
            elif _about_keys(name):
                told.append(f"{name} is unknown, so it is ignored.")
        return told

    def unused(self) -> list[str]:
        """
        A sentence about all other variables that nobody has asked for, if there are any.

        Called when all is read.
        """
        names = [
            name for name, meant in self._strangers() if meant is None and not _about_keys(name)
        ]
        if not names:
            return []
        return [f"{', '.join(names)}: no effect here."]

    def secret(self, name: str) -> str | None:
        """
        The value of a variable, or the text of the file that ``<name>_FILE`` names, without
        white space around it.  The file counts more.

        As in containers, a name without such a path is looked for among the mounted secrets
        first, and a file that does not exist is not given.
        """
        path = self.text(f"{name}_FILE")
        self._asked.add(name)
        if path:
            for place in (_SECRETS + path, path):
                text = self._file(f"{name}_FILE", place)
                if text is not None:
                    return text.strip()
            self.warnings.append(f"{name}_FILE: there is no file {path}, so it is ignored.")
        return self.text(name)

    def there(self, path: str) -> bool:
        """
        Whether there is such a file; one that cannot be read is a mistake.
        """
        try:
            return self._read(path) is not None
        except UnicodeDecodeError:
            return True
        except OSError as error:
            self.mistakes.append(f"{path}: {error.strerror}.")
            return False

    def flag(self, name: str) -> bool:
        """
        A variable that is ``on`` or ``off``; off when it is not set.
        """
        value = (self.text(name) or "").strip().lower()
        if value not in _ON and value not in _OFF:
            self.mistakes.append(f"{name} must be on or off.")
        return value in _ON

    def _strangers(self) -> Iterator[tuple[str, str | None]]:
        """
        What nobody has asked for: the name as it was set, and the one that may be meant.
        """
        words = sorted(name.removeprefix(_MINIO) for name in self._asked)
        for name in sorted(self._variables.keys() - self._asked):
            spelt = self._spelt[name]
            close = get_close_matches(name.removeprefix(_MINIO), words, 1, _LIKENESS)
            prefix = _KYPELLO if spelt.startswith(_KYPELLO) else _MINIO
            yield spelt, prefix + close[0] if close else None

    def _merge(self, variables: Mapping[str, str]) -> None:
        found: dict[str, tuple[str, str]] = {}
        for name in sorted(variables):
            known = _MINIO + name.removeprefix(_KYPELLO) if name.startswith(_KYPELLO) else name
            if not known.startswith(_MINIO):
                continue
            other = found.get(known)
            if other is not None and other[1] != variables[name]:
                self.mistakes.append(
                    f"{other[0]} and {name} are set to different values; set only one of them."
                )
            found[known] = name, variables[name]
        self._variables.update({known: value for known, (_, value) in found.items()})
        self._spelt.update({known: name for known, (name, _) in found.items()})

    def _parse_file(self, path: str) -> dict[str, str]:
        text = self._file(_ENV_FILE, path)
        if text is None:
            self.mistakes.append(f"{_ENV_FILE}: there is no file {path}.")
            return {}
        found = {}
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip().removeprefix("export ").lstrip()
            if not line or line.startswith("#"):
                continue
            name, sign, value = line.partition("=")
            if not sign or not name.strip().replace("_", "").isalnum():
                # The line is not repeated: it may be a secret.
                self.mistakes.append(f"{path}:{number}: expected NAME=VALUE.")
                continue
            found[name.strip()] = _unquoted(value.strip())
        return found

    def _file(self, name: str, path: str) -> str | None:
        try:
            return self._read(path)
        except OSError as error:
            self.mistakes.append(f"{name}: {path}: {error.strerror}.")
        except UnicodeDecodeError:
            self.mistakes.append(f"{name}: {path} is not UTF-8 text.")
        return ""


def _about_keys(name: str) -> bool:
    return name.startswith((f"{_MINIO}KMS_", f"{_KYPELLO}KMS_"))


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
