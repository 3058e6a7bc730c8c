# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The metadata of objects, from request headers and to response headers.

Only what is listed here is kept: no other header of a client ever becomes metadata.
"""

from collections.abc import Container, Iterator, Mapping

from attrs import define

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.model import ObjectInfo, ObjectMetadata
from kypello.s3.dates import http_date
from kypello.s3.encryption import sealing_headers
from kypello.s3.errors import invalid_argument, not_implemented
from kypello.s3.tagging import read_tagging_header, tagging_headers

#: What an object without ``Content-Type`` is.
DEFAULT_TYPE = "binary/octet-stream"

#: The most that names and values of user metadata may have together, in bytes.
MAX_USER_METADATA = 2048

_USER = "x-amz-meta-"

#: Where a website shows another page in place of an object.
REDIRECT = "x-amz-website-redirect-location"

_MAX_REDIRECT = 2048
_STORAGE_CLASS = "x-amz-storage-class"
_STORAGE_CLASSES = ("STANDARD", "REDUCED_REDUNDANCY")

#: Headers that are stored and returned as they are, in their usual spelling.
_SYSTEM = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-type": "Content-Type",
    "expires": "Expires",
    REDIRECT: REDIRECT,
}

#: Headers that change what a PUT does, so that it must not be stored without them.
_UNSUPPORTED = (
    "x-amz-copy-source",
    "x-amz-write-offset-bytes",
    "x-minio-fanout-list",
)

#: Query parameters that replace a header of the answer.
_OVERRIDES = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}


@define
class StoredHeaders:
    """
    What a PUT says about the object beside its content.

    :ivar system: By lower-case name.
    :ivar user: By lower-case name without ``x-amz-meta-``.
    """

    system: Mapping[str, str]
    user: Mapping[str, str]
    storage_class: str
    tags: Mapping[str, str]

    def describe(self, etag: str, checksums: Mapping[str, str]) -> ObjectMetadata:
        """
        The metadata of an object that came in one piece.

        :param etag: Empty when no MD5 was computed.
        """
        return ObjectMetadata(
            etag=etag,
            headers=self.system,
            user=self.user,
            checksums=checksums,
            checksum_type="FULL_OBJECT" if checksums else "",
            tags=self.tags,
            storage_class=self.storage_class,
        )


def read_stored_headers(head: RequestHead, storage_classes: Container[str] = ()) -> StoredHeaders:
    """
    Read and check the headers that become metadata.

    :param storage_classes: Accepted beside those that are accepted always.
    :raises Refused: ``MetadataTooLarge``, ``InvalidStorageClass``, ``InvalidRedirectLocation``,
        ``InvalidRequest``, what wrong tags get, or ``NotImplemented`` for what would be lost.
    """
    _check_supported(head)
    system, user = read_replaced(head)
    redirect, storage_class = read_placement(head, storage_classes)
    return StoredHeaders({**system, **redirect}, user, storage_class, read_tagging_header(head))


def read_replaced(head: RequestHead) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """
    The system headers but for the redirection, and the user metadata.

    :raises Refused: ``MetadataTooLarge``.
    """
    system: dict[str, str] = {}
    user: dict[str, str] = {}
    size = 0
    for name, value in head.headers:
        if name.startswith(_USER):
            bare = name.removeprefix(_USER)
            user[bare] = f"{user[bare]},{value}" if bare in user else value
            size += len(bare) + len(value)
        elif name in _SYSTEM and name != REDIRECT:
            system[name] = f"{system[name]},{value}" if name in system else value
    if size > MAX_USER_METADATA:
        raise Refused(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            {"Size": str(size), "MaxSizeAllowed": str(MAX_USER_METADATA)},
        )
    system["content-type"] = system.get("content-type") or DEFAULT_TYPE
    system["content-encoding"] = _without_chunking(system.get("content-encoding", ""))
    return (
        {name: value for name, value in system.items() if value},
        {name: _text(value) for name, value in user.items()},
    )


def read_placement(
    head: RequestHead, storage_classes: Container[str] = ()
) -> tuple[Mapping[str, str], str]:
    """
    The redirection, as a system header if there is one, and the storage class: what is never
    copied from another object.

    :param storage_classes: As in :func:`read_stored_headers`.
    :raises Refused: ``InvalidStorageClass`` or ``InvalidRedirectLocation``.
    """
    redirect = head.header(REDIRECT)
    _check_redirect(redirect)
    storage_class = _storage_class(head.header(_STORAGE_CLASS), storage_classes)
    return {REDIRECT: redirect} if redirect else {}, storage_class


def object_headers(info: ObjectInfo) -> list[tuple[str, str]]:
    """
    The headers that GET and HEAD answer with, but for those that depend on the request.
    """
    metadata = info.metadata
    headers = [
        ("Accept-Ranges", "bytes"),
        ("ETag", f'"{metadata.etag}"'),
        ("Last-Modified", http_date(info.modified)),
        *((_SYSTEM[name], value) for name, value in metadata.headers.items()),
        *((_USER + name, _printable(value)) for name, value in metadata.user.items()),
        *tagging_headers(metadata),
        *sealing_headers(metadata.sealing),
    ]
    if metadata.storage_class != "STANDARD":
        headers.append((_STORAGE_CLASS, metadata.storage_class))
    return headers


def checksum_headers(metadata: ObjectMetadata) -> Iterator[tuple[str, str]]:
    """
    The checksums of an object, or of a part.
    """
    for algorithm, value in metadata.checksums.items():
        yield f"x-amz-checksum-{algorithm}", value
    if metadata.checksums and metadata.checksum_type:
        yield "x-amz-checksum-type", metadata.checksum_type


def checksum_elements(checksums: Mapping[str, str]) -> str:
    """
    The same for documents, without the type.
    """
    return "".join(
        f"<Checksum{name.upper()}>{value}</Checksum{name.upper()}>"
        for name, value in checksums.items()
    )


def read_overrides(head: RequestHead) -> dict[str, str]:
    """
    The headers of the answer that ``response-*`` parameters replace.

    :raises Refused: ``InvalidArgument``: a value that no header can hold.
    """
    overrides = {}
    for name, value in head.query:
        header = _OVERRIDES.get(name)
        if header is not None:
            if any(character < " " or character == "\x7f" for character in value):
                raise invalid_argument(name, value, "Header values hold no control characters.")
            overrides[header] = value.encode().decode("latin-1")
    return overrides


def overridden(
    headers: list[tuple[str, str]], overrides: Mapping[str, str]
) -> list[tuple[str, str]]:
    """
    Replace *headers* by *overrides*.
    """
    if not overrides:
        return headers
    kept = [(name, value) for name, value in headers if name not in overrides]
    return [*kept, *overrides.items()]


def _without_chunking(encoding: str) -> str:
    codings = [coding.strip() for coding in encoding.split(",")]
    return ", ".join(coding for coding in codings if coding.lower() not in ("", "aws-chunked"))


def _check_redirect(location: str | None) -> None:
    if location and not (
        location.startswith(("/", "http://", "https://")) and len(location) <= _MAX_REDIRECT
    ):
        raise Refused(
            "InvalidRedirectLocation",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        )


def _check_supported(head: RequestHead) -> None:
    for name in _UNSUPPORTED:
        if head.header(name) is not None:
            raise not_implemented(name)


def _storage_class(stated: str | None, more: Container[str]) -> str:
    if stated and stated not in _STORAGE_CLASSES and stated not in more:
        raise Refused("InvalidStorageClass", "The storage class you specified is not valid")
    return stated or "STANDARD"


def _text(value: str) -> str:
    """
    The text that the bytes of a header mean: UTF-8, or what HTTP once took them for.
    """
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _printable(value: str) -> str:
    """
    A value as it can stand in a header: encoded as RFC 2047 says, unless it is printable ASCII.
    """
    if value.isascii() and value.isprintable():
        return value
    words, word = [], ""
    for character in value:
        coded = "".join(
            chr(byte) if chr(byte) in _PLAIN else f"={byte:02X}" for byte in character.encode()
        )
        if len(word) + len(coded) > _ENCODED_WORD:
            words.append(word)
            word = ""
        word += "_" if coded == "=20" else coded
    return " ".join(f"=?UTF-8?q?{word}?=" for word in [*words, word])


#: What stands for itself in the Q encoding.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!*+-/")

#: How long the text of an encoded word is at most (RFC 2047, section 2).
_ENCODED_WORD = 75 - len("=?UTF-8?q??=")
