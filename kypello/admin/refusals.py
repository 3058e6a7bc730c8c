# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the administration API knows and this server does not offer, and why.

Programs get an answer that says so, instead of one that makes them believe it was done.
"""

from collections.abc import Awaitable, Callable, Mapping

from kypello.admin.call import Call
from kypello.admin.errors import not_offered
from kypello.http.response import Response

_SET_AT_START = (
    "The configuration is set on the command line and in the environment (KYPELLO_..., MINIO_...)"
    " and holds from the next start: see kypello server --help."
)
REPLICATION = "Objects are not replicated to other servers."
_SITES = "Accounts and buckets are not replicated between sites."
_TIERS = "There is no other storage that objects could move to."
_JOBS = "There are no batch jobs."
_POOLS = "The server keeps its data in one directory: there are no pools."
_DIAGNOSIS = "The server makes no profiles and measures nothing by itself: see docs/performance.md."
_PROVIDERS = "Providers of identities are set up on the command line and in the environment."
_LOCKS = "Nothing here is locked for longer than a request."
_KEY_SERVICE = "Ask the key server itself."


def refusal(reason: str) -> Callable[[Call], Awaitable[Response]]:
    """
    An operation that tells why it is not offered.
    """

    async def refuse(call: Call) -> Response:
        """
        Tell it.
        """
        raise not_offered(reason)

    return refuse


def _admin(words: str, reason: str) -> dict[tuple[str, str], str]:
    """
    Several routes that are refused for one reason.
    """
    pairs = (pair.strip().split(" ") for pair in words.split(","))
    return {
        (method, path if path.startswith("/") else f"/minio/admin/v3/{path}"): reason
        for method, path in pairs
    }


#: By method and path; a path that ends with a star has more behind it.
REFUSALS: Mapping[tuple[str, str], str] = {
    **_admin(
        "PUT set-config-kv, DELETE del-config-kv, PUT config, GET list-config-history-kv,"
        " DELETE clear-config-history-kv, PUT restore-config-history-kv",
        _SET_AT_START,
    ),
    **_admin(
        "PUT set-remote-target, DELETE remove-remote-target, POST replication/diff,"
        " GET replication/mrf, GET bandwidth",
        REPLICATION,
    ),
    **_admin(
        "PUT site-replication/add, PUT site-replication/remove, PUT site-replication/edit,"
        " GET site-replication/metainfo, PUT site-replication/resync/op",
        _SITES,
    ),
    **_admin("PUT tier, POST tier/*, DELETE tier/*, GET tier/*", _TIERS),
    **_admin(
        "POST start-job, GET status-job, GET describe-job, DELETE cancel-job, GET generate-job",
        _JOBS,
    ),
    **_admin(
        "GET pools/list, GET pools/status, POST pools/decommission, POST pools/cancel,"
        " POST rebalance/start, GET rebalance/status, POST rebalance/stop",
        _POOLS,
    ),
    **_admin(
        "POST profile, POST profiling/start, GET profiling/download, POST speedtest,"
        " POST speedtest/object, POST speedtest/drive, POST speedtest/net, POST speedtest/site,"
        " POST speedtest/client/devnull, GET healthinfo, GET obdinfo, GET inspect-data,"
        " POST inspect-data, GET metrics",
        _DIAGNOSIS,
    ),
    **_admin("PUT idp-config/*, POST idp-config/*, DELETE idp-config/*", _PROVIDERS),
    **_admin("GET top/locks, POST force-unlock", _LOCKS),
    **_admin("POST update", "The server is updated by what installed it."),
    **_admin(
        "GET /minio/kms/v1/apis",
        _KEY_SERVICE,
    ),
}
