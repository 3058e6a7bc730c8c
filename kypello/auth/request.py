# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A request as signatures see it: what the client sent before the body, byte for byte.
"""

import re
from collections.abc import Mapping, Set

from attrs import define, field

from kypello.errors import Refused

_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@define
class RequestHead:
    """
    Method, target and headers of one request, which nobody changes.  Query and headers may hold
    secrets.

    :ivar method: Upper case.
    :ivar path: The path as sent, still percent-encoded, without the query.
    :ivar query: Decoded parameters in the order sent; ``("acl", "")`` for a bare ``?acl``.
    :ivar headers: Lower-case names and trimmed values in arrival order; each byte of a value is
        one character (latin-1), so that nothing is lost.
    :ivar secure: Whether the request came over TLS.
    :ivar peer: The address of the peer, for logs and policies.
    :ivar host_bucket: The bucket that the host names, which the path then does not; empty when
        the path names it.
    :ivar tls_version: Such as ``1.3``; empty when the request did not come over TLS.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secure: bool = False
    peer: str = ""
    host_bucket: str = ""
    tls_version: str = ""

    _fields: Mapping[str, str] = field(init=False, repr=False, eq=False)
    _parameters: Mapping[str, str] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """
        Find headers and parameters by name.
        """
        self._parameters = dict(self.query[::-1])
        self._fields = fields = dict(self.headers)
        if len(fields) < len(self.headers):
            values: dict[str, list[str]] = {}
            for name, value in self.headers:
                values.setdefault(name, []).append(value)
            self._fields = {name: ",".join(parts) for name, parts in values.items()}

    @property
    def header_names(self) -> Set[str]:
        """
        The names of all headers.
        """
        return self._fields.keys()

    @property
    def parameter_names(self) -> Set[str]:
        """
        The names of all query parameters.
        """
        return self._parameters.keys()

    def header(self, name: str) -> str | None:
        """
        The value of a header, repeated ones joined with a comma; ``None`` when absent.

        :param name: Lower case.
        """
        return self._fields.get(name)

    def parameter(self, name: str) -> str | None:
        """
        The first value of a query parameter, or ``None`` when absent.
        """
        return self._parameters.get(name)


def as_header(parameter: str, value: str) -> tuple[str, str]:
    """
    The header that a query parameter stands for.

    :raises Refused: ``InvalidArgument`` for what cannot be one.
    """
    name = parameter.lower()
    raw = value.encode("utf-8", "surrogateescape").decode("latin-1").strip(" \t")
    if not _TOKEN.fullmatch(name) or _CONTROL.search(raw):
        raise Refused(
            "InvalidArgument",
            "A query parameter that stands for a header has an invalid name or value",
            {"ArgumentName": parameter},
        )
    return name, raw
