# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES API as a client sees it: paths and bodies of requests, what answers mean.
"""

import json
import re
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import quote, unquote

from attrs import define, field, frozen

from kypello.errors import (
    InvalidKeyName,
    KeyExists,
    KeyNotFound,
    KMSForbidden,
    KMSNotSupported,
    KypelloError,
    NotAuthentic,
)
from kypello.model import KeyInfo

#: How a time that is unknown is told.
UNKNOWN_TIME = "0001-01-01T00:00:00Z"

#: Where the key server reports on itself.
STATUS_PATH = "/v1/status"

_DATA_KEY_SIZE = 32
_NAME_SIZE = 80
_EMPTY_CONTEXT = b"{}"
_INVALID_NAME = re.compile(
    r"(key name|listing pattern) '.*' is empty, too long or (contains invalid characters|is"
    r" invalid)",
    re.DOTALL,
)
_ALGORITHMS = {
    "AES256": "AES256",
    "AES256-GCM_SHA256": "AES256",
    "ChaCha20": "ChaCha20",
    "XCHACHA20-POLY1305": "ChaCha20",
}
_ERRORS: dict[tuple[int, str], type[KeyNotFound | KeyExists]] = {
    (404, "key does not exist"): KeyNotFound,
    (400, "key already exists"): KeyExists,
    (400, "key does already exist"): KeyExists,
}
_NOT_AUTHENTIC = (400, "decryption failed: ciphertext is not authentic")
_FORBIDDEN = (
    (403, "not authorized: insufficient permissions"),
    (403, "prohibited by policy"),
)
_NO_SUCH_CALL = (404, "404 page not found")
_PRINTED = 200


@define(eq=False)
class Nonsense(KypelloError):
    """
    An answer that no key server gives.  What it holds may be secret and is not told.
    """


@frozen
class Page:
    """
    A part of a list of names.

    :ivar continue_at: What asks for the next part; empty behind the last one.
    :ivar lines: Whether it came as one line per name, as from servers before October 2023.
    """

    names: tuple[str, ...]
    continue_at: str = ""
    lines: bool = False


@frozen
class SealedKey:
    """
    What a key server makes: a data key, plain and sealed.
    """

    plaintext: bytes = field(repr=False)
    sealed: bytes


def bound(context: bytes) -> bytes:
    """
    What a data key is bound to for a context: even an empty one has two bytes.
    """
    return context or _EMPTY_CONTEXT


def key_path(operation: str, name: str) -> str:
    """
    Where an operation is asked for.

    :raises InvalidKeyName: No server has such a key, and some would take the path for another
        one.
    """
    encoded = name.encode("utf-8", "replace")
    if name in {"", ".", ".."} or len(encoded) > _NAME_SIZE or "/" in name:
        raise InvalidKeyName(name)
    return f"/v1/key/{operation}/{quote(encoded, safe='')}"


def list_path(prefix: str) -> str:
    """
    Where the names are that begin so.
    """
    return f"/v1/key/list/{quote(prefix or '*', safe='', errors='replace')}"


def key_of(path: bytes) -> str:
    """
    The master key that a request for a data key needs; empty for other requests.
    """
    for prefix in (b"/v1/key/generate/", b"/v1/key/decrypt/"):
        if path.startswith(prefix):
            return unquote(path.removeprefix(prefix).decode("ascii"))
    return ""


def makes_key(path: bytes) -> bool:
    """
    Whether a request is one for a new data key.
    """
    return path.startswith(b"/v1/key/generate/")


def repeatable(path: bytes) -> bool:
    """
    Whether a request may be made again when nobody knows what became of it.

    To create a key twice fails the second time, though all is well.
    """
    return not path.startswith(b"/v1/key/create/")


def generate_body(context: bytes) -> bytes:
    """
    Ask for a data key.
    """
    return _body(context=bound(context))


def decrypt_body(sealed: bytes, context: bytes) -> bytes:
    """
    Ask for what is sealed.
    """
    return _body(ciphertext=sealed, context=bound(context))


def read_sealed_key(body: bytes) -> SealedKey:
    """
    A new data key.

    :raises Nonsense:
    """
    members = _members(body)
    sealed = _binary(members, "ciphertext")
    if not sealed:
        raise Nonsense()
    return SealedKey(_data_key(members), sealed)


def read_opened_key(body: bytes) -> bytes:
    """
    A data key that was opened.

    :raises Nonsense:
    """
    return _data_key(_members(body))


def read_key_info(name: str, body: bytes) -> KeyInfo:
    """
    What a server tells about a key.

    :raises Nonsense:
    """
    members = _members(body)
    algorithm = _ALGORITHMS.get(_text(members, "algorithm"))
    if algorithm is None:
        raise Nonsense()
    return KeyInfo(
        name,
        algorithm,
        _text(members, "created_at") or UNKNOWN_TIME,
        _text(members, "created_by"),
    )


def read_page(body: bytes) -> Page:
    """
    A part of a list, in either form.

    :raises Nonsense: Also when the server broke off with an error.
    """
    try:
        members = _members(body)
    except Nonsense:
        return _read_lines(body)
    if "name" in members or "error" in members:
        return _read_lines(body)
    names = members.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Nonsense()
    return Page(tuple(names), _text(members, "continue_at"))


def read_status(body: bytes) -> str:
    """
    What is wrong with a server, for people; empty when it is well.

    :raises Nonsense:
    """
    members = _members(body)
    if not _text(members, "version"):
        raise Nonsense()
    if members.get("keystore_unreachable"):
        return "its key store is not reachable"
    if members.get("keystore_unavailable"):
        return "its key store is not available"
    return ""


def read_version(body: bytes) -> str:
    """
    The version of a server's program, by its status.

    :raises Nonsense:
    """
    return _text(_members(body), "version")


def message_of(body: bytes) -> str:
    """
    What a server says is wrong.
    """
    try:
        members = _members(body)
        found = _text(members, "error") or _text(members, "message")
    except Nonsense:
        found = body.decode("utf-8", "replace")
    return found.strip()


def trouble_of(path: bytes, status: int, body: bytes) -> str:
    """
    Why an answer is none, for people, so that another server should be asked; else empty.
    """
    if status == 501 or 400 <= status < 500:
        return ""
    if status != 200:
        return f"it answers {told(status, body)}"
    try:
        for prefix, read in _READERS:
            if path.startswith(prefix):
                read(body)
    except Nonsense:
        return "its answer is not that of a key server"
    return ""


def told(status: int, body: bytes) -> str:
    """
    An answer in a few words for people.
    """
    message = "".join(sign if sign.isprintable() else " " for sign in message_of(body)[:_PRINTED])
    return f"{status} ({message})" if message else str(status)


def error_of(operation: str, name: str, status: int, body: bytes) -> KypelloError | None:
    """
    What a refusal means; ``None`` when it is none of those that a key server gives.
    """
    answer = (status, message_of(body))
    if answer in _ERRORS:
        return _ERRORS[answer](name)
    if answer == _NOT_AUTHENTIC:
        return NotAuthentic("data key")
    if answer in _FORBIDDEN:
        return KMSForbidden(operation)
    if answer == _NO_SUCH_CALL or status == 501:
        return KMSNotSupported(operation)
    if status == 400 and _INVALID_NAME.fullmatch(answer[1]):
        return InvalidKeyName(name)
    return None


def _body(**members: bytes) -> bytes:
    encoded = {name: b64encode(value).decode("ascii") for name, value in members.items()}
    return json.dumps(encoded).encode()


def _members(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Nonsense() from None
    if not isinstance(found, dict):
        raise Nonsense()
    return found


def _text(members: dict[str, Any], name: str) -> str:
    found = members.get(name) or ""
    if not isinstance(found, str):
        raise Nonsense()
    return found


def _binary(members: dict[str, Any], name: str) -> bytes:
    try:
        return b64decode(_text(members, name), validate=True)
    except ValueError:
        raise Nonsense() from None


def _data_key(members: dict[str, Any]) -> bytes:
    plaintext = _binary(members, "plaintext")
    if len(plaintext) != _DATA_KEY_SIZE:
        raise Nonsense()
    return plaintext


def _read_lines(body: bytes) -> Page:
    names = []
    for line in body.splitlines():
        if line.strip():
            name = _text(_members(line), "name")
            if not name:
                raise Nonsense()
            names.append(name)
    return Page(tuple(names), lines=True)


_READERS = (
    (b"/v1/key/generate/", read_sealed_key),
    (b"/v1/key/decrypt/", read_opened_key),
    (b"/v1/key/describe/", lambda body: read_key_info("", body)),
    (b"/v1/key/list/", read_page),
)
