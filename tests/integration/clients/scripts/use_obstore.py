# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
obstore.
"""

from base64 import b64encode
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store
from serve import Client, serve


class Obstore(Client):
    """
    A store for each kind of protection.
    """

    def connect(self, code: str, bucket: str, customer_key: str) -> None:
        """
        Make the stores.
        """
        super().connect(code, bucket, customer_key)
        plain = self.names["store"]
        self.stores = {
            "plain": plain,
            "sse-s3": self.protected(plain, server_side_encryption="AES256"),
            "sse-c": self.protected(
                plain,
                server_side_encryption="sse-c",
                sse_customer_key_base64=b64encode(self.customer_key).decode(),
            ),
        }

    def protected(self, plain: Any, **arguments: str) -> Any:
        """
        The same store with one more setting.
        """
        return S3Store(
            config={**plain.config, **arguments},
            client_options=plain.client_options,
        )

    def put(self, source: str, key: str, kind: str) -> None:
        """
        Store a file, in parts if it is large.
        """
        obstore.put(self.stores[kind], key, Path(source))

    def get(self, key: str, target: str, kind: str) -> None:
        """
        Read a stream.
        """
        with open(target, "wb") as file:
            for piece in obstore.get(self.stores[kind], key):
                file.write(piece)

    def get_range(self, key: str, first: int, last: int, kind: str) -> str:
        """
        Read a range.
        """
        found = obstore.get_range(self.stores[kind], key, start=first, end=last + 1)
        return bytes(found).hex()

    def keys(self, prefix: str) -> dict[str, int]:
        """
        List.
        """
        pages = obstore.list(self.stores["plain"], prefix or None)
        return {entry["path"]: entry["size"] for page in pages for entry in page}

    def copy(self, source: str, target: str, kind: str) -> bool:
        """
        Copy.
        """
        obstore.copy(self.stores[kind], source, target)
        return True

    def sync(self, folder: str, prefix: str, kind: str) -> bool:
        """
        Store all of a folder.
        """
        for path in Path(folder).rglob("*"):
            if path.is_file():
                key = prefix + path.relative_to(folder).as_posix()
                obstore.put(self.stores[kind], key, path)
        return True

    def delete(self, keys: list[str]) -> None:
        """
        Remove all with one request.
        """
        obstore.delete(self.stores["plain"], keys)

    def create(self, key: str) -> bool:
        """
        Store something only once; tell whether the second time was refused.
        """
        obstore.put(self.stores["plain"], key, b"once", mode="create")
        try:
            obstore.put(self.stores["plain"], key, b"twice", mode="create")
        except obstore.exceptions.AlreadyExistsError:
            return True
        return False


serve(Obstore())
