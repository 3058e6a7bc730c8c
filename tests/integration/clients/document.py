# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``docs/clients.md``, made of the settings that the tests of the clients run with:

    python -m tests.integration.clients.document >docs/clients.md

Each test module of a client begins its docstring with the client's name, and has a constant
``SETTINGS``: Markdown with fenced blocks for a server at ``http://127.0.0.1:9000``, the credentials
``ACCESS_KEY`` and ``SECRET_KEY``, and the bucket ``BUCKET``.  The tests take their settings from
these blocks with :func:`block`.
"""

import pkgutil
import re
import sys
from importlib import import_module
from types import ModuleType

from tests.integration import clients
from tests.integration.clients.story import BUCKET, PLAIN, SSE_C, SSE_S3, ClientStory
from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess

_HEAD = """\
# Clients

How to point S3 clients at a Kypello server. Every block below is what the tests of
`tests/integration/clients/` run with: each client stores, lists, reads, copies, synchronizes and
deletes files of up to 40 MiB. Replace `http://127.0.0.1:9000`, `ACCESS_KEY` and `SECRET_KEY`; any
region will do, and buckets are addressed by path.

This file is made by `python -m tests.integration.clients.document`.
"""

_KINDS = {PLAIN: "without encryption", SSE_S3: "with SSE-S3", SSE_C: "with SSE-C"}
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(settings: str, server: ServerProcess, number: int = 0) -> str:
    """
    A fenced block of a client's settings, filled in for a server.

    :param number: Which block, from 0.
    """
    text: str = _BLOCK.findall(settings)[number]
    for name, value in (
        ("http://127.0.0.1:9000", server.endpoint),
        ("127.0.0.1:9000", server.endpoint.partition("://")[2]),
        ("ACCESS_KEY", ACCESS_KEY),
        ("SECRET_KEY", SECRET_KEY),
        ("BUCKET", BUCKET),
    ):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", value, text)
    return text


def document() -> str:
    """
    The whole document.
    """
    sections = [_section(module) for module in _modules()]
    return "\n".join([_HEAD, *sorted(filter(None, sections), key=str.casefold)])


def _modules() -> list[ModuleType]:
    names = [found.name for found in pkgutil.iter_modules(clients.__path__)]
    tests = [name for name in names if name.startswith("test_")]
    return [import_module(f"{clients.__name__}.{name}") for name in tests]


def _section(module: ModuleType) -> str | None:
    stories = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, ClientStory)
        and value.__module__ == module.__name__
    ]
    if not stories:
        return None
    title = (module.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    lived = {kind for story in stories for kind in story.kinds}
    kinds = ", ".join(text for kind, text in _KINDS.items() if kind in lived)
    settings: str = module.SETTINGS
    return f"## {title}\n\nTested {kinds}.\n\n{settings.strip()}\n"


if __name__ == "__main__":
    sys.stdout.write(document())
