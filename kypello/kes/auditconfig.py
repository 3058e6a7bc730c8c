# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Where the audit log goes beside the log: the section ``kypello.audit``.
"""

from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from kypello.document import Value


@frozen
class TrailSettings:
    """
    A file for the audit log, as a chain of records.

    :ivar key_file: What the chain is keyed with; ``None`` for nothing.
    """

    file: Path
    key_file: Path | None = None


@frozen
class HookSettings:
    """
    A webhook for the audit log.

    :ivar token: Shown to it; empty for none.
    :ivar ca: Who may sign its certificate, a file or directory; ``None`` for those of the system.
    """

    url: str
    token: str = field(default="", repr=False)
    ca: Path | None = None


def read_audit(value: Value) -> tuple[TrailSettings | None, HookSettings | None]:
    """
    Read the section; its mistakes are in the report of the document.
    """
    section = value.exactly("file", "key_file", "webhook")
    file, key = section["file"], section["key_file"]
    if value.given and not file.given and not section["webhook"].given:
        value.mistake("needs a file, a webhook, or both")
    if key.given and not file.given:
        key.mistake("is of a file, and there is none")
    # An empty one is a variable or a line that was forgotten: the chain would have no key.
    key_file = Path(key.required("the path of a file")) if key.given else None
    trail = None
    if file.given:
        trail = TrailSettings(Path(file.required("the path of a file")), key_file)
    return trail, _hook(section["webhook"])


def _hook(value: Value) -> HookSettings | None:
    if not value.given:
        return None
    section = value.exactly("url", "token", "ca")
    url = section["url"].required("a URL, such as https://logs.example.org/kes")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if url and (not good or not url.isascii() or "@" in parts.netloc):
        section["url"].mistake("must be a URL of http or https, without a password")
    ca = Path(section["ca"].required("the path of a file")) if section["ca"].given else None
    return HookSettings(url, section["token"].text(), ca)
