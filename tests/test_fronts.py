# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for the fronts of a server.
"""

from kypello.fronts import for_server
from kypello.http.fronts import Fronts, below
from kypello.testing.harness import Answer, Harness
from tests.cases import SyncCase
from tests.http.test_fronts import Named


class ServerTests(SyncCase):
    """
    Which requests are for the server itself.
    """

    def asked(self, harness: Harness, host: str) -> bytes:
        """
        Who answers a request about administration that is sent to a host.
        """
        lines = [("Host", host)]
        answer = self.successResultOf(harness.request("GET", "/minio/admin/v3/info", lines))
        assert isinstance(answer, Answer)
        return answer.body

    def test_host_that_names_a_bucket(self) -> None:
        """
        Where the host names a bucket, the path is that of an object, whatever it looks like.
        """
        belongs = for_server(below(b"/minio/admin/"), ("s3.example",))
        harness = Harness(Fronts([(belongs, Named(b"admin"))], Named(b"rest")), access_log=False)
        for host, expected in (
            ("s3.example", b"admin"),
            ("s3.example:9000", b"admin"),
            ("192.0.2.1", b"admin"),
            ("minio.s3.example", b"admin"),
            ("bucket.s3.example", b"rest"),
            ("Bucket.S3.example:9000", b"rest"),
        ):
            self.assertEqual(self.asked(harness, host), expected, host)

    def test_without_domains(self) -> None:
        """
        Without domains no host names a bucket.
        """
        belongs = for_server(below(b"/minio/admin/"), ())
        harness = Harness(Fronts([(belongs, Named(b"admin"))], Named(b"rest")), access_log=False)
        self.assertEqual(self.asked(harness, "bucket.s3.example"), b"admin")
