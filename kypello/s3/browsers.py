# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What browsers are told about requests of pages that come from elsewhere.

They ask before they send most of them, without a signature and whether or not there is what they
are about, and show pages nothing of an answer that does not allow it.
"""

from collections.abc import Mapping, Sequence

from kypello.auth.request import RequestHead
from kypello.errors import Refused
from kypello.s3.cors import CORS, METHODS, CORSRule, default_rules, read_rules

#: What caches have to know of every answer that a rule has added to.
VARY = (
    "Vary",
    "Origin, Accept-Encoding, Access-Control-Request-Headers, Access-Control-Request-Method",
)

#: How many headers a page may ask for: more than any needs, and few to look up for strangers.
_MOST_HEADERS = 100

_ORIGIN = "origin"
_METHOD = "access-control-request-method"
_HEADERS = "access-control-request-headers"


def rules_of(settings: Mapping[str, bytes], origins: tuple[str, ...]) -> Sequence[CORSRule]:
    """
    The rules that count for a bucket.

    :param settings: Its own; none for the service, and for a bucket that is not there.
    :param origins: Whose pages may do everything where a bucket has no rules.
    """
    stored = settings.get(CORS.name)
    return default_rules(origins) if stored is None else read_rules(stored)


def tell_page(head: RequestHead, rules: Sequence[CORSRule]) -> list[tuple[str, str]]:
    """
    What the answer to a request tells a browser; nothing when the page may not see it.
    """
    origin = head.header(_ORIGIN)
    if origin:
        for rule in rules:
            if rule.allows(origin, head.method):
                return rule.words(origin)
    return []


def preflight(head: RequestHead, rules: Sequence[CORSRule]) -> list[tuple[str, str]]:
    """
    What a browser is told that asks whether a page may send the request that it describes.

    :raises Refused: ``BadRequest`` when it describes none, ``AccessForbidden`` when it may not.
    """
    origin, method = head.header(_ORIGIN), head.header(_METHOD)
    if not origin:
        raise Refused("BadRequest", "Insufficient information. Origin request header needed.")
    if method not in METHODS:
        raise Refused("BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}")
    if not rules:
        raise Refused("AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
    wanted = [name.strip().lower() for name in (head.header(_HEADERS) or "").split(",")]
    headers = [name for name in dict.fromkeys(wanted) if name]
    for rule in rules:
        if len(headers) <= _MOST_HEADERS and rule.allows(origin, method, headers):
            return rule.words(origin, headers)
    raise Refused(
        "AccessForbidden",
        "CORSResponse: This CORS request is not allowed. This is usually because the evaluation"
        " of Origin, request method / Access-Control-Request-Method or"
        " Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
    )
