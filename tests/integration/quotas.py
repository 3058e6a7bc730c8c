# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Quotas as an administrator sets them.
"""

import json
from urllib.request import Request, urlopen

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.integration.server import ACCESS_KEY, SECRET_KEY, ServerProcess


def set_quota(server: ServerProcess, bucket: str, size: int) -> None:
    """
    Set a quota, as its administrator does.
    """
    url = f"{server.endpoint}/minio/admin/v3/set-bucket-quota?bucket={bucket}"
    request = AWSRequest("PUT", url, data=json.dumps({"quota": size, "quotatype": "hard"}).encode())
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(request)
    prepared = request.prepare()
    with urlopen(Request(url, prepared.body, dict(prepared.headers), method="PUT"), timeout=20):
        pass
