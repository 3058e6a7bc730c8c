# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The one table of what the administration API has: each route, who may use it, what does it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

from attrs import frozen

from kypello.admin import (
    accesskeys,
    archives,
    entities,
    groups,
    kms,
    nothing,
    policies,
    server,
    serviceaccounts,
    settings,
    users,
)
from kypello.admin.call import Call
from kypello.admin.refusals import REFUSALS, refusal
from kypello.crypto.payload import MAX_PAYLOAD
from kypello.http.response import Response
from kypello.iam.archivefile import MAX_SIZE

Operation: TypeAlias = Callable[[Call], Awaitable[Response]]

#: The largest body of a request that holds a document in clear, in bytes.
MAX_DOCUMENT = 256 * 1024

ADMIN = "/minio/admin/v3/"
KMS = "/minio/kms/v1/"

#: The right that all these operations ask for themselves.
_ITSELF: tuple[str, ...] = ()


@frozen
class Route:
    """
    One route.

    :ivar method: Upper case.
    :ivar path: All of it; one that ends with a star has more behind it.
    :ivar actions: One of which policies have to allow; none when the operation asks itself.
    :ivar perform: Answers.
    :ivar limit: The largest body, in bytes.
    :ivar offered: Whether it does what clients expect of it.
    """

    method: str
    path: str
    actions: tuple[str, ...]
    perform: Operation
    limit: int = MAX_DOCUMENT
    offered: bool = True

    @property
    def name(self) -> str:
        """
        What the log calls it.
        """
        return "admin:" + self.path.removeprefix(ADMIN).rstrip("/*")


def _route(
    words: str, actions: tuple[str, ...] | str, perform: Operation, limit: int = MAX_DOCUMENT
) -> Route:
    method, path = words.split()
    if not path.startswith("/"):
        path = ADMIN + path
    return Route(method, path, (actions,) if isinstance(actions, str) else actions, perform, limit)


_ATTACH = ("admin:AttachUserOrGroupPolicy", "admin:UpdatePolicyAssociation")
_ENTITIES = ("admin:ListGroups", "admin:ListUsers", "admin:ListUserPolicies")
_CONFIG = "admin:ConfigUpdate"

ROUTES: tuple[Route, ...] = (
    # Users and groups
    _route("PUT add-user", _ITSELF, users.add_user, MAX_PAYLOAD),
    _route("PUT set-user-status", _ITSELF, users.set_user_status),
    _route("DELETE remove-user", "admin:DeleteUser", users.remove_user),
    _route("GET list-users", "admin:ListUsers", users.list_users),
    _route("GET user-info", _ITSELF, users.user_info),
    _route("PUT update-group-members", _ITSELF, groups.update_members),
    _route("PUT set-group-status", _ITSELF, groups.set_group_status),
    _route("GET groups", "admin:ListGroups", groups.list_groups),
    _route("GET group", "admin:GetGroup", groups.group_info),
    # Policies
    _route("PUT add-canned-policy", "admin:CreatePolicy", policies.add_policy),
    _route("GET list-canned-policies", "admin:ListUserPolicies", policies.list_policies),
    _route("GET info-canned-policy", "admin:GetPolicy", policies.policy_info),
    _route("DELETE remove-canned-policy", "admin:DeletePolicy", policies.remove_policy),
    _route("PUT set-user-or-group-policy", _ATTACH, policies.set_policies),
    _route("POST idp/builtin/policy/attach", _ATTACH, policies.attach, MAX_PAYLOAD),
    _route("POST idp/builtin/policy/detach", _ATTACH, policies.detach, MAX_PAYLOAD),
    _route("GET idp/builtin/policy-entities", _ENTITIES, entities.policy_entities),
    # Service accounts and sessions
    _route("PUT add-service-account", _ITSELF, serviceaccounts.add, MAX_PAYLOAD),
    _route("POST update-service-account", _ITSELF, serviceaccounts.update, MAX_PAYLOAD),
    _route("DELETE delete-service-account", _ITSELF, serviceaccounts.delete),
    _route("GET list-service-accounts", _ITSELF, serviceaccounts.list_of_user),
    _route("GET info-service-account", _ITSELF, serviceaccounts.info),
    _route("GET list-access-keys-bulk", _ITSELF, accesskeys.list_in_bulk),
    _route("GET idp/openid/list-access-keys-bulk", _ITSELF, accesskeys.list_of_subjects),
    _route("GET info-access-key", _ITSELF, accesskeys.info),
    _route("GET temporary-account-info", _ITSELF, accesskeys.session_info),
    _route("POST revoke-tokens/*", _ITSELF, accesskeys.revoke),
    # All of them at once
    _route("GET export-iam", "admin:ExportIAM", archives.export_accounts),
    _route("PUT import-iam", "admin:ImportIAM", archives.import_accounts_silently, MAX_SIZE),
    _route("PUT import-iam-v2", "admin:ImportIAM", archives.import_accounts, MAX_SIZE),
    # The server
    _route("GET info", "admin:ServerInfo", server.info),
    _route("GET storageinfo", "admin:StorageInfo", server.storage_info),
    _route("GET accountinfo", _ITSELF, server.account_info),
    _route("POST service", _ITSELF, server.service),
    _route("GET get-config-kv", _CONFIG, settings.get_config),
    _route("GET help-config-kv", _CONFIG, settings.help_config),
    _route("GET config", _CONFIG, settings.export_config),
    # Keys
    _route("POST kms/status", _ITSELF, kms.status),
    _route("GET kms/status", _ITSELF, kms.status),
    _route("POST kms/key/create", _ITSELF, kms.create_key),
    _route("GET kms/key/status", _ITSELF, kms.key_status),
    _route(f"GET {KMS}status", _ITSELF, kms.status),
    _route(f"POST {KMS}key/create", _ITSELF, kms.create_key),
    _route(f"GET {KMS}key/list", _ITSELF, kms.list_keys),
    _route(f"GET {KMS}key/status", _ITSELF, kms.key_status),
    # What there is none of
    _route("GET get-bucket-quota", "admin:GetBucketQuota", nothing.quota),
    _route("GET list-remote-targets", "admin:GetBucketTarget", nothing.remote_targets),
    _route("GET site-replication/info", "admin:SiteReplicationInfo", nothing.replication),
    _route("GET site-replication/status", "admin:SiteReplicationInfo", nothing.replication_status),
    _route("GET tier", "admin:ListTier", nothing.tiers),
    _route("GET tier-stats", "admin:ListTier", nothing.tiers),
    _route("GET list-jobs", "admin:ListBatchJobs", nothing.jobs),
    _route("GET idp-config/*", _CONFIG, nothing.providers),
    _route("POST background-heal/status", "admin:Heal", nothing.background_healing),
    _route("POST heal/*", "admin:Heal", nothing.heal),
    *(
        Route(method, path, _ITSELF, refusal(reason), MAX_PAYLOAD, offered=False)
        for (method, path), reason in REFUSALS.items()
    ),
)

_EXACT: Mapping[tuple[str, str], Route] = {(route.method, route.path): route for route in ROUTES}
_OPEN = tuple(route for route in ROUTES if route.path.endswith("/*"))


def find_route(method: str, path: str) -> tuple[Route, str] | None:
    """
    The route of a request.

    :param path: As sent.
    :return: The route, and what is behind its path, decoded; ``None`` when there is none.
    """
    route = _EXACT.get((method, path))
    if route is not None:
        return route, ""
    for route in _OPEN:
        prefix = route.path[:-1]
        if method == route.method and path.startswith(prefix):
            return route, unquote(path.removeprefix(prefix))
    return None
