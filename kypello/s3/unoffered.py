# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Subresources that S3 or MinIO knows and this server does not, each with the reason.

A request that names one must never be taken for the plain operation of its level.
"""

from collections.abc import Mapping

_METADATA_TABLES = "There are no tables of what is known of objects."
_REPORTS = "There is nobody who would write or read such reports."
_ARCHIVE = "Nothing is archived: every object can be read at once."
_QUERY = "Objects are given as they are; queries belong to the client."
_REPLICATION = "Buckets are not replicated yet."

#: Of the service.
SERVICE: Mapping[str, str] = {}

#: Of buckets.
BUCKET: Mapping[str, str] = {
    "abac": "Policies decide by tags of objects, not of buckets.",
    "analytics": _REPORTS,
    "intelligent-tiering": "There is one tier.",
    "inventory": _REPORTS,
    "metadataAnnotationTable": _METADATA_TABLES,
    "metadataConfiguration": _METADATA_TABLES,
    "metadataInventoryTable": _METADATA_TABLES,
    "metadataJournalTable": _METADATA_TABLES,
    "metadataTable": _METADATA_TABLES,
    "metrics": _REPORTS,
    "replication-metrics": _REPLICATION,
    "replication-reset": _REPLICATION,
    "session": "There are no directory buckets.",
}

#: Of objects.
OBJECT: Mapping[str, str] = {
    "annotation": "Objects have metadata and tags only.",
    "annotations": "Objects have metadata and tags only.",
    "lambdaArn": "Objects are given as they are.",
    "renameObject": "There are no directory buckets, which alone have it; copy and delete.",
    "restore": _ARCHIVE,
    "select": _QUERY,
    "select-type": _QUERY,
    "torrent": "Nothing is shared over BitTorrent.",
}
