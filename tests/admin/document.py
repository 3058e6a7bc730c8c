# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``docs/admin-api.md``, made of the table of routes:

    python -m tests.admin.document >docs/admin-api.md
"""

import sys
from inspect import cleandoc

from kypello.admin.refusals import REFUSALS
from kypello.admin.routes import ADMIN, ROUTES, Route

_HEAD = """\
# Administration API

The API that `mc admin`, and programs with Go's `madmin` library, speak: paths below
`/minio/admin/v3/` and `/minio/kms/v1/`, signed like requests to S3 (version 4, service `s3`, any
region). This file is made by `python -m tests.admin.document`.

What differs from MinIO, on purpose:

- The digest of the body has to be signed: `UNSIGNED-PAYLOAD` is refused.
- Rights of administration come only from statements that name actions of `admin` or `kms`: neither
  `s3:*` nor `NotAction` gives any.
- A service account or a session that is limited by a policy changes no access key of its own user,
  and what it makes is limited alike.
- Service accounts and sessions of the root user are its own business alone.
- What acts for a user cannot set the user's secret key.
- Enabling and disabling are different rights; taking users out of groups has one of its own, too.
- What is wrong with a request is told with a status below 500, also where a policy that comes with
  the server is removed, a key of the KMS exists already, or an expiry is out of range. To remove a
  policy that is not there is an error.
- Nothing that is not done is answered with 200.

A request that was signed is good for 15 minutes, as in S3; on a network that others can read, use
TLS, as they could send it again. Secret keys are encrypted in any case, with the secret key of
whoever asks.

Each worker encrypts or decrypts one payload at a time, which takes 64 MiB of memory meanwhile.

The log of the server tells who has changed something, by which call, and of whom or what as far as
the query names it.

## Who needs which right

Policies have to allow one of the rights. Where they are marked with †, the operation asks by
itself: the right depends on what is asked for, and users need none for their own account, as long
as no statement denies it, and what limits a service account or a session allows it.
"""

_REFUSED = """\
## Not offered

These are answered 501 `NotImplemented`, with the reason. Whatever is not in this file at all is
answered 426, by which clients of other versions know what to do.
"""


def document() -> str:
    """
    The whole document.
    """
    parts = [_HEAD, "| call | right | what |", "|---|---|---|"]
    parts.extend(_row(route) for route in ROUTES if route.offered)
    parts += ["", _REFUSED, "| call | why |", "|---|---|"]
    reasons: dict[str, list[str]] = {}
    for (method, path), reason in REFUSALS.items():
        reasons.setdefault(reason, []).append(_call(method, path))
    parts.extend(f"| {', '.join(calls)} | {reason} |" for reason, calls in reasons.items())
    return "\n".join(parts) + "\n"


def _row(route: Route) -> str:
    mark = "†" if route.asks else ""
    rights = ", ".join(f"`{action}`" for action in route.actions) + mark
    described = cleandoc(route.perform.__doc__ or "").split("\n\n")
    about = " ".join(" ".join(described).replace("``", "`").split())
    return f"| {_call(route.method, route.path)} | {rights or 'none'} | {about} |"


def _call(method: str, path: str) -> str:
    shown = path.removeprefix(ADMIN) if path.startswith(ADMIN) else path
    return f"`{method} {shown}`"


if __name__ == "__main__":
    sys.stdout.write(document())
