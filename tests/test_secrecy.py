# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
No secret shows when something that holds it is printed.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import attrs

import kypello
from tests.cases import SyncCase

#: Names, without leading underscores, of fields that hold secrets if they hold bytes or text.
_SECRET = {
    "access_secret", "api_key", "client_secret", "data_key", "external_key", "key", "key_password",
    "material", "object_key", "passphrase", "password", "plaintext", "root_secret", "secret",
    "secret_key", "seed", "session_token", "token",
}  # fmt: skip

#: Those that have such a name and are none: names of objects and records, and sealed keys.
_HARMLESS = {
    "kypello.crypto.metadata.KeyRecord.data_key",
    "kypello.crypto.metadata.OuterKey.data_key",
    "kypello.errors.Conflict.key",
    "kypello.model.Write.key",
    "kypello.objects.datakeys.SealedLayer.data_key",
    "kypello.s3.root._Exchange.key",
}


def classes() -> Iterator[type]:
    """
    All classes made by attrs.
    """
    for found in pkgutil.walk_packages(kypello.__path__, "kypello."):
        module = importlib.import_module(found.name)
        for each in vars(module).values():
            if isinstance(each, type) and each.__module__ == found.name and attrs.has(each):
                yield each


class ReprTests(SyncCase):
    """
    What is printed of values and services.
    """

    def test_fields(self) -> None:
        """
        A field with bytes, and the name of a secret, is never printed; nor is one with text, but
        for names of objects, which are called keys, too.
        """
        shown, hidden = set(), 0
        for each in classes():
            for field in attrs.fields(each):
                name = field.name.lstrip("_")
                if name not in _SECRET or not holds_secret(name, field.type):
                    continue
                hidden += 1
                if field.repr:
                    shown.add(f"{each.__module__}.{each.__name__}.{name}")
        self.assertEqual(shown - _HARMLESS, set())
        self.assertGreater(hidden, 10)


def holds_secret(name: str, kind: Any) -> bool:
    """
    Whether a field of that type may hold a secret.
    """
    text = str(kind)
    return "bytes" in text or ("str" in text and name not in ("key", "object_key"))
