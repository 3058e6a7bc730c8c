# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Conditions of policies that only a real connection can meet.
"""

import json
import ssl
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.integration.test_multipart import SecureCase


class TLSTests(SecureCase):
    """
    A bucket that gives objects to everybody who comes with a certain version of TLS.
    """

    def test_version(self) -> None:
        """
        ``s3:TlsVersion`` is that of the connection.
        """
        self.s3.put_object(Bucket="bucket", Key="k", Body=b"content")
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::bucket/*",
            "Condition": {"NumericGreaterThanEquals": {"s3:TlsVersion": "1.3"}},
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.s3.put_bucket_policy(Bucket="bucket", Policy=json.dumps(policy))
        trusted = ssl.create_default_context(cafile=str(self.work / "certs" / "public.crt"))
        url = f"{self.server.endpoint}/bucket/k"
        with urlopen(url, timeout=20, context=trusted) as answer:
            self.assertEqual(answer.read(), b"content")
        trusted.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(HTTPError) as caught, urlopen(url, timeout=20, context=trusted):
            pass
        self.assertEqual(caught.exception.code, 403)
        caught.exception.close()
