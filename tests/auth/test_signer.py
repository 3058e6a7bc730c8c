# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.auth.signer``.
"""

from hashlib import sha256

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from kypello.auth.request import RequestHead
from kypello.auth.signer import Keys, authorization
from kypello.auth.sigv4 import Scope
from tests.cases import SyncCase


class SignerTests(SyncCase):
    """
    Requests are signed as AWS's own client signs them.
    """

    def test_like_botocore(self) -> None:
        """
        The header is the one that botocore makes, with and without the token of a session.
        """
        for token in ("", "token+/="):
            keys = Keys("access", "secret", token)
            body = b'{"SecretId":"a"}'
            theirs = AWSRequest(
                "POST",
                "https://secretsmanager.eu-central-1.amazonaws.com/",
                {"content-type": "application/x-amz-json-1.1", "x-amz-target": "a.B"},
                body,
            )
            credentials = Credentials(keys.access_key, keys.secret_key, keys.token or None)
            SigV4Auth(credentials, "secretsmanager", "eu-central-1").add_auth(theirs)
            timestamp = theirs.headers["X-Amz-Date"]
            headers = {
                "host": "secretsmanager.eu-central-1.amazonaws.com",
                "content-type": "application/x-amz-json-1.1",
                "x-amz-date": timestamp,
                "x-amz-target": "a.B",
            }
            if token:
                headers["x-amz-security-token"] = token
            ours = authorization(
                RequestHead("POST", "/", (), tuple(headers.items())),
                keys,
                Scope(timestamp[:8], "eu-central-1", "secretsmanager"),
                timestamp,
                sha256(body).hexdigest(),
            )
            self.assertEqual(ours, theirs.headers["Authorization"])

    def test_hidden(self) -> None:
        """
        Neither secret key nor token are in the text of keys.
        """
        self.assertEqual(repr(Keys("access", "secret", "token")), "Keys(access_key='access')")
