# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the security token service looks like in bytes: forms in, XML out.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from attrs import field, frozen

from kypello.errors import Refused
from kypello.http.response import Response
from kypello.iam.values import Session

#: The namespace of all documents.
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"

#: The only version of the API.
VERSION = "2011-06-15"

#: How long a form may be, in bytes, and how many fields it may have.
MAX_FORM = 64 * 1024
MAX_FIELDS = 64

_CONTENT_TYPE = ("Content-Type", "application/xml")
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
#: What XML 1.0 allows neither as a character nor as a reference.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@frozen
class Fields:
    """
    The fields of a call.  Many of them are secret.
    """

    _values: Mapping[str, str] = field(repr=False)

    def text(self, name: str) -> str:
        """
        The value of a field; empty when it is absent.
        """
        return self._values.get(name, "")

    def required(self, name: str) -> str:
        """
        The value of a field.

        :raises Refused: ``MissingParameter``: it is absent or empty.
        """
        value = self._values.get(name, "")
        if not value:
            raise Refused("MissingParameter", f"The request must contain the parameter {name}.")
        return value


def read_fields(form: bytes, query: bytes) -> Fields:
    """
    Read what a call says, in its body and in its query.

    :raises Refused: ``InvalidParameterValue``: a field stands twice, or is no UTF-8.
    """
    values: dict[str, str] = {}
    for part in (form, query):
        for name, value in _pairs(part):
            if name in values:
                raise Refused("InvalidParameterValue", "A parameter is given more than once.")
            values[name] = value
    return Fields(values)


def _pairs(part: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            part.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise Refused(
            "InvalidParameterValue",
            f"The parameters must be a form of at most {MAX_FIELDS} fields in UTF-8.",
        ) from None


@frozen
class Granted:
    """
    What a call answers.

    :ivar role_user: Whether the answer tells the role, which clients expect and which is empty.
    :ivar extra: Further elements of the answer, by name.
    """

    session: Session
    role_user: bool = True
    extra: Mapping[str, str] = field(factory=dict)


def granted_response(action: str, granted: Granted, request_id: str) -> Response:
    """
    The answer that hands out the credentials of a session.
    """
    session = granted.session
    expires = datetime.fromtimestamp(session.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    credentials = _elements(
        {
            "AccessKeyId": session.access_key,
            "SecretAccessKey": session.secret_key,
            "SessionToken": session.token,
            "Expiration": expires,
        }
    )
    role_user = ""
    if granted.role_user:
        # The names are those that clients have read for years.
        role_user = "<AssumedRoleUser><Arn></Arn><AssumeRoleId></AssumeRoleId></AssumedRoleUser>"
    return Response(
        200,
        (_CONTENT_TYPE, ("Cache-Control", "no-store")),
        _document(
            f"{action}Response",
            f"<{action}Result>{role_user}<Credentials>{credentials}</Credentials>"
            f"{_elements(granted.extra)}</{action}Result>"
            f"<ResponseMetadata>{_elements({'RequestId': request_id})}</ResponseMetadata>",
        ),
    )


def error_response(status: int, refused: Refused, request_id: str) -> Response:
    """
    The answer that tells what went wrong.
    """
    told = _elements({"Type": "", "Code": refused.code, "Message": refused.message})
    return Response(
        status,
        (_CONTENT_TYPE,),
        _document("ErrorResponse", f"<Error>{told}</Error>{_elements({'RequestId': request_id})}"),
    )


def _elements(texts: Mapping[str, str]) -> str:
    return "".join(
        f"<{name}>{escape(_FORBIDDEN.sub('', text))}</{name}>" for name, text in texts.items()
    )


def _document(root: str, content: str) -> bytes:
    return f'{_DECLARATION}<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()
