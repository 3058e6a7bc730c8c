# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Archives of accounts for tests.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

EMBEDDED: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::projects/*"],
        }
    ],
}

TEAM: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::projects/${aws:username}/*"],
        },
        {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": ["arn:aws:s3:::projects"],
        },
    ],
}

#: MinIO's own policy of that name, as it exports it.
READ_ONLY: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:GetBucketLocation"],
            "Resource": ["arn:aws:s3:::*"],
        }
    ],
}


def minio_assets() -> dict[str, Any]:
    """
    What MinIO exported of users, a group that counts and one that does not, and service accounts
    of two users and of its root user.
    """
    return {
        "policies": {"readonly": READ_ONLY, "team": TEAM},
        "users": {
            "alice": {"secretKey": "alice-secret-1", "status": "enabled"},
            "bob": {"secretKey": "bob-secret-12", "status": "enabled"},
            "carol": {"secretKey": "carol-secret", "status": "disabled"},
        },
        "groups": {
            "gone": {
                "version": 1,
                "status": "disabled",
                "members": ["carol"],
                "updatedAt": "2026-11-26T10:44:28.250949971Z",
            },
            "staff": {
                "version": 1,
                "status": "enabled",
                "members": ["alice", "bob"],
                "updatedAt": "2026-11-26T10:44:28.168913582Z",
            },
        },
        "svcaccts": {
            "ALICEKEY000000000001": key("alice", name="first", description="from the move"),
            "BOBKEY0000000000001": key("bob", policy=EMBEDDED, expiration="2026-12-06T10:44:29Z"),
            "ROOTKEY0000000000001": key("oldroot"),
        },
        "user_mappings": {"bob": mapping("readonly")},
        "group_mappings": {"staff": mapping("team")},
        "stsuser_mappings": {"uid=dora,ou=people": mapping("team")},
    }


def key(
    parent: str,
    *,
    policy: Mapping[str, Any] | None = None,
    expiration: str = "1970-01-01T00:00:00Z",
    claims: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    A service account as MinIO exports it.
    """
    kind = "inherited-policy" if policy is None else "embedded-policy"
    return {
        "parent": parent,
        "accessKey": "",
        "secretKey": f"secret-of-{parent[:20]}",
        "groups": None,
        "claims": {"parent": parent, "sa-policy": kind, **(claims or {})},
        "sessionPolicy": policy,
        "status": "on",
        "name": "",
        "description": "",
        "expiration": expiration,
        **more,
    }


def mapping(policies: str) -> dict[str, Any]:
    """
    The policies of somebody as MinIO exports them.
    """
    return {"version": 0, "policy": policies, "updatedAt": "2026-11-26T10:44:28.642535163Z"}


def zipped(assets: Mapping[str, Any], compression: int = ZIP_DEFLATED) -> bytes:
    """
    An archive of these files; those that are no bytes become JSON.
    """
    written = BytesIO()
    with ZipFile(written, "w", compression) as archive:
        for name, told in assets.items():
            content = told if isinstance(told, bytes) else json.dumps(told).encode()
            archive.writestr(f"iam-assets/{name}.json", content)
    return written.getvalue()


def unzipped(content: bytes) -> dict[str, Any]:
    """
    The files of an archive by their names there.
    """
    with ZipFile(BytesIO(content)) as archive:
        return {
            name.removeprefix("iam-assets/").removesuffix(".json"): json.loads(archive.read(name))
            for name in archive.namelist()
        }
