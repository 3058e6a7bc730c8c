# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
All accounts in one archive.
"""

from kypello.admin.call import Call
from kypello.admin.errors import malformed_archive
from kypello.admin.wire import DONE
from kypello.archive import MalformedArchive
from kypello.http.response import Response
from kypello.iam.archive import export_archive, import_archive
from kypello.iam.importing import Importer
from kypello.iam.importreport import Report
from kypello.model import Kind


async def export_accounts(call: Call) -> Response:
    """
    Tell all accounts, with their secret keys.
    """
    content = await export_archive(call.accounts, call.front.lanes.lane())
    return Response(200, (("Content-Type", "application/zip"),), content)


async def import_accounts(call: Call) -> Response:
    """
    Make the accounts of an archive, and tell what became of them.

    Two parameters are Kypello's own: ``dry-run=true``, and ``old-root``, the access key of the
    root user of where the archive is from.
    """
    report = await _import(call)
    return Response(200, (("Content-Type", "application/json"),), report.to_json())


async def import_accounts_silently(call: Call) -> Response:
    """
    Import in the same way, for older clients, which expect no answer.
    """
    await _import(call)
    return DONE


async def _import(call: Call) -> Report:
    kind = call.identity.kind
    importer = Importer(
        call.user, call.may, kind is Kind.ROOT, derived=kind in (Kind.SERVICE, Kind.SESSION)
    )
    try:
        return await import_archive(
            call.accounts,
            call.content,
            importer,
            root=call.front.root,
            clock=call.front.clock,
            lane=call.front.lanes.lane(),
            dry_run=call.parameter("dry-run") == "true",
            old_root=call.parameter("old-root"),
        )
    except MalformedArchive as error:
        raise malformed_archive(error) from error
