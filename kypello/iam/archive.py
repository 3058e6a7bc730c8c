# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
All accounts in one file: out of this server, and into it from another one or from MinIO.
"""

from twisted.internet.interfaces import IReactorTime

from kypello.iam.accounts import Accounts
from kypello.iam.archivefile import (
    Archive,
    ArchivedGroup,
    ArchivedKey,
    ArchivedUser,
    read_archive,
    write_archive,
)
from kypello.iam.importing import Importer, Importing
from kypello.iam.importreport import Report
from kypello.iam.subjects import write_claims
from kypello.iam.values import HolderKind, KeyInfo
from kypello.interfaces import ILane


async def export_archive(accounts: Accounts, lane: ILane) -> bytes:
    """
    Write all accounts, with their secret keys in clear; sessions are not among them.

    Who asks has to be allowed ``admin:ExportIAM``.

    :param lane: Where the archive is packed.
    :raises KypelloError: As all calls of :class:`Accounts`.
    """
    held: dict[HolderKind, dict[str, tuple[str, ...]]] = {kind: {} for kind in HolderKind}
    for holder, policies in (await accounts.holders()).items():
        held[holder.kind][holder.name] = policies
    groups = await accounts.all_groups()
    users: dict[str, ArchivedUser] = {}
    keys: dict[str, ArchivedKey] = {}
    for secret in await accounts.secrets():
        about = secret.about
        if isinstance(about, KeyInfo):
            keys[about.access_key] = _key(about, secret.secret_key)
        else:
            users[about.name] = ArchivedUser(secret.secret_key, about.enabled)
    archive = Archive(
        policies={each.name: each.policy.text for each in await accounts.policies()},
        users=users,
        groups={each.name: ArchivedGroup(each.enabled, each.members) for each in groups},
        keys=keys,
        user_policies=held[HolderKind.USER],
        group_policies=held[HolderKind.GROUP],
        subject_policies=held[HolderKind.SUBJECT],
    )
    packed: bytes = await lane.run(write_archive, archive)
    return packed


async def import_archive(
    accounts: Accounts,
    content: bytes,
    importer: Importer,
    *,
    root: str,
    clock: IReactorTime,
    lane: ILane,
    dry_run: bool,
    old_root: str = "",
) -> Report:
    """
    Make the accounts of an archive, or change those that are here to what it says.

    Nothing is removed.  What fails does not keep the rest from being done; to import the same
    again changes nothing more.  Who asks has to be allowed ``admin:ImportIAM``, and each thing
    needs the right to do it by itself, too.

    :param importer: Who asks.
    :param root: The access key of the root user.
    :param clock: Tells the time in seconds since the epoch; others get their turn by it.
    :param lane: Where the archive is unpacked.
    :param dry_run: Change nothing, and tell what would become of it.
    :param old_root: The root user of where the archive is from: its keys become keys of the root
        user here.  Empty when nobody said.
    :raises MalformedArchive: Nothing was done.
    :raises KypelloError: As all calls of :class:`Accounts`; part of it may have been done.
    """
    archive = await lane.run(read_archive, content)
    importing = Importing(accounts, archive, importer, root, clock, dry_run, old_root)
    return Report(await importing.run(), dry_run)


def _key(about: KeyInfo, secret_key: str) -> ArchivedKey:
    return ArchivedKey(
        parent=about.parent,
        secret_key=secret_key,
        enabled=about.enabled,
        policy=None if about.policy is None else about.policy.text,
        name=about.name,
        description=about.description,
        expires=about.expires,
        groups=about.groups,
        claims=write_claims(about),
    )
