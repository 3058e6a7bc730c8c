# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The headers of every answer.
"""

_ALWAYS = (
    ("Vary", "Origin, Accept-Encoding"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-XSS-Protection", "1; mode=block"),
)
_SECURELY = (("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),)


def standing_headers(request_id: str, host_id: str, *, secure: bool) -> tuple[tuple[str, str], ...]:
    """
    What every answer says, an error as well as a success.

    :param secure: The request came over TLS.
    """
    named = (("x-amz-request-id", request_id), ("x-amz-id-2", host_id))
    return (*named, *_ALWAYS, *(_SECURELY if secure else ()))
