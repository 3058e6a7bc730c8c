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
    bucketarchives,
    encryptionrules,
    entities,
    groups,
    keyusage,
    kms,
    lifecycle,
    nothing,
    policies,
    providers,
    quotas,
    rotation,
    server,
    serviceaccounts,
    settings,
    streams,
    users,
)
from kypello.admin.call import Call
from kypello.admin.refusals import REFUSALS, refusal
from kypello.crypto.payload import MAX_PAYLOAD
from kypello.http.response import Response
from kypello.iam.archivefile import LIMITS

Operation: TypeAlias = Callable[[Call], Awaitable[Response]]

#: The largest body of a request that holds a document in clear, in bytes.
MAX_DOCUMENT = 256 * 1024

ADMIN = "/minio/admin/v3/"
KMS = "/minio/kms/v1/"

_NOTHING: tuple[str, ...] = ()


@frozen
class Route:
    """
    One route.

    :ivar method: Upper case.
    :ivar path: All of it; one that ends with a star has more behind it.
    :ivar actions: One of which policies have to allow.
    :ivar perform: Answers.
    :ivar limit: The largest body, in bytes.
    :ivar asks: The operation asks for the actions by itself: which one it takes depends on the
        request, and who asks about their own account may need none.
    :ivar offered: Whether it does what clients expect of it.
    """

    method: str
    path: str
    actions: tuple[str, ...]
    perform: Operation
    limit: int = MAX_DOCUMENT
    asks: bool = False
    offered: bool = True

    @property
    def name(self) -> str:
        """
        What the log calls it.
        """
        return "admin:" + self.path.removeprefix(ADMIN).rstrip("/*")


def _route(
    words: str,
    actions: tuple[str, ...] | str,
    perform: Operation,
    limit: int = MAX_DOCUMENT,
    *,
    asks: bool = False,
) -> Route:
    method, path = words.split()
    if not path.startswith("/"):
        path = ADMIN + path
    needed = (actions,) if isinstance(actions, str) else actions
    return Route(method, path, needed, perform, limit, asks)


def _asking(
    words: str, actions: tuple[str, ...] | str, perform: Operation, limit: int = MAX_DOCUMENT
) -> Route:
    return _route(words, actions, perform, limit, asks=True)


_ATTACH = ("admin:AttachUserOrGroupPolicy", "admin:UpdatePolicyAssociation")
_ENTITIES = ("admin:ListGroups", "admin:ListUsers", "admin:ListUserPolicies")
_CONFIG = "admin:ConfigUpdate"
_USERS = ("admin:EnableUser", "admin:DisableUser")
_GROUPS = ("admin:EnableGroup", "admin:DisableGroup")
_MEMBERS = ("admin:AddUserToGroup", "admin:RemoveUserFromGroup")
_KEYS = ("admin:ListServiceAccounts", "admin:ListTemporaryAccounts", "admin:ListUsers")
_RULES = ("admin:SetRequiredEncryption", "admin:GetRequiredEncryption")
_SERVICE = ("admin:ServiceRestart", "admin:ServiceStop", "admin:ServiceFreeze")

ROUTES: tuple[Route, ...] = (
    # Users and groups
    _asking("PUT add-user", "admin:CreateUser", users.add_user, MAX_PAYLOAD),
    _asking("PUT set-user-status", _USERS, users.set_user_status),
    _route("DELETE remove-user", "admin:DeleteUser", users.remove_user),
    _route("GET list-users", "admin:ListUsers", users.list_users),
    _asking("GET user-info", "admin:GetUser", users.user_info),
    _asking("PUT update-group-members", _MEMBERS, groups.update_members),
    _asking("PUT set-group-status", _GROUPS, groups.set_group_status),
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
    _route("POST idp/ldap/policy/attach", _ATTACH, policies.attach_to_entry, MAX_PAYLOAD),
    _route("POST idp/ldap/policy/detach", _ATTACH, policies.detach_from_entry, MAX_PAYLOAD),
    _route("GET idp/ldap/policy-entities", _ENTITIES, entities.entries_with_policies),
    # Service accounts and sessions
    _asking(
        "PUT add-service-account", "admin:CreateServiceAccount", serviceaccounts.add, MAX_PAYLOAD
    ),
    _asking(
        "PUT idp/ldap/add-service-account",
        "admin:CreateServiceAccount",
        serviceaccounts.add_to_entry,
        MAX_PAYLOAD,
    ),
    _asking(
        "POST update-service-account",
        "admin:UpdateServiceAccount",
        serviceaccounts.update,
        MAX_PAYLOAD,
    ),
    _asking("DELETE delete-service-account", "admin:RemoveServiceAccount", serviceaccounts.delete),
    _asking("GET list-service-accounts", "admin:ListServiceAccounts", serviceaccounts.list_of_user),
    _asking("GET info-service-account", "admin:ListServiceAccounts", serviceaccounts.info),
    _asking("GET list-access-keys-bulk", _KEYS, accesskeys.list_in_bulk),
    _asking("GET idp/openid/list-access-keys-bulk", _KEYS, accesskeys.list_of_subjects),
    _asking("GET idp/ldap/list-access-keys-bulk", _KEYS, accesskeys.list_of_entries),
    _asking("GET info-access-key", _KEYS, accesskeys.info),
    _asking("GET temporary-account-info", "admin:ListTemporaryAccounts", accesskeys.session_info),
    _asking("POST revoke-tokens/*", "admin:RemoveServiceAccount", accesskeys.revoke),
    # All of them at once
    _route("GET export-iam", "admin:ExportIAM", archives.export_accounts),
    _route("PUT import-iam", "admin:ImportIAM", archives.import_accounts_silently, LIMITS.size),
    _route("PUT import-iam-v2", "admin:ImportIAM", archives.import_accounts, LIMITS.size),
    # The server
    _route("GET info", "admin:ServerInfo", server.info),
    _route("GET datausageinfo", "admin:DataUsageInfo", server.usage),
    _route("GET expiring", "admin:DataUsageInfo", lifecycle.expiring),
    _route("GET storageinfo", "admin:StorageInfo", server.storage_info),
    _route("GET accountinfo", _NOTHING, server.account_info),
    _asking("POST service", _SERVICE, server.service),
    _route("GET trace", "admin:ServerTrace", streams.trace),
    _route("GET log", "admin:ConsoleLog", streams.log),
    _route("GET get-config-kv", _CONFIG, settings.get_config),
    _route("GET help-config-kv", _CONFIG, settings.help_config),
    _route("GET config", _CONFIG, settings.export_config),
    _route("GET idp-config/*", _CONFIG, providers.providers),
    # Buckets
    _route(
        "GET export-bucket-metadata", "admin:ExportBucketMetadata", bucketarchives.export_buckets
    ),
    _route(
        "PUT import-bucket-metadata",
        "admin:ImportBucketMetadata",
        bucketarchives.import_buckets,
        bucketarchives.LIMITS.size,
    ),
    _route("GET get-bucket-quota", "admin:GetBucketQuota", quotas.get_quota),
    _route("PUT set-bucket-quota", "admin:SetBucketQuota", quotas.set_quota),
    _route("GET kypello/encryption-rules", _RULES, encryptionrules.rules),
    _route("PUT kypello/required-encryption", _RULES[0], encryptionrules.require),
    _route("DELETE kypello/required-encryption", _RULES[0], encryptionrules.require_nothing),
    # Keys
    _asking("POST kms/status", "admin:KMSKeyStatus", kms.status),
    _asking("GET kms/status", "admin:KMSKeyStatus", kms.status),
    _asking("POST kms/key/create", "admin:KMSCreateKey", kms.create_key),
    _asking("GET kms/key/status", "admin:KMSKeyStatus", kms.key_status),
    _asking(f"GET {KMS}status", "kms:Status", kms.status),
    _asking(f"POST {KMS}key/create", "kms:CreateKey", kms.create_key),
    _asking(f"GET {KMS}key/list", "kms:ListKeys", kms.list_keys),
    _asking(f"GET {KMS}key/status", "kms:KeyStatus", kms.key_status),
    _route("POST encryption/rotate-objects", "admin:StartBatchJob", rotation.rotate_objects),
    _route("POST encryption/rotate-uploads", "admin:StartBatchJob", rotation.rotate_uploads),
    _route("POST encryption/rotate-key", "admin:StartBatchJob", rotation.rotate_key),
    _asking(f"DELETE {KMS}key/delete", "kms:DeleteKey", keyusage.delete_key),
    _asking(f"GET {KMS}metrics", "kms:Metrics", kms.metrics),
    _asking(f"GET {KMS}version", "kms:Version", kms.version),
    _route("GET kypello/key-usage", "admin:KMSKeyStatus", keyusage.usage),
    # What there is none of
    _route("GET list-remote-targets", "admin:GetBucketTarget", nothing.remote_targets),
    _route("GET site-replication/info", "admin:SiteReplicationInfo", nothing.replication),
    _route("GET site-replication/status", "admin:SiteReplicationInfo", nothing.replication_status),
    _route("GET tier", "admin:ListTier", nothing.tiers),
    _route("GET tier-stats", "admin:ListTier", nothing.tiers),
    _route("GET list-jobs", "admin:ListBatchJobs", nothing.jobs),
    _route("POST background-heal/status", "admin:Heal", nothing.background_healing),
    _route("POST heal/*", "admin:Heal", nothing.heal),
    *(
        Route(method, path, _NOTHING, refusal(reason), MAX_PAYLOAD, offered=False)
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
