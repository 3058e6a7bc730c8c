# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.monitor.health``, over the wire.
"""

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from kypello.errors import StorageFailed, StorageFull
from kypello.interfaces import IKMS
from kypello.model import KMSEndpoint, KMSStatus
from kypello.monitor.health import FRESH, Health
from kypello.testing.fakes import FakeStorage
from tests.cases import SyncCase
from tests.s3.front import FrontCase


class WireTests(FrontCase):
    """
    Probes as orchestrators send them.
    """

    def test_well(self) -> None:
        """
        All probes are good, without a signature and without a body.
        """
        for word in ("live", "ready", "cluster", "cluster/read", "cluster?maintenance=true"):
            for method in ("GET", "HEAD"):
                answer = self.plainly(method, f"/minio/health/{word}", [])
                self.assertEqual((answer.status, answer.body), (200, b""), word)
                self.assertEqual(answer.header("Content-Length"), "0")

    def test_outage(self) -> None:
        """
        Without its KMS a server lives and is not ready; it is again when the KMS is back.
        """
        self.kms.down = True
        for word, status in (("live", 200), ("ready", 503), ("cluster", 200)):
            answer = self.plainly("GET", f"/minio/health/{word}", [])
            self.assertEqual(answer.status, status)
        answer = self.plainly("GET", "/minio/health/ready", [])
        self.assertEqual(answer.header("Retry-After"), "5")
        self.kms.down = False
        self.clock.advance(FRESH)
        self.assertEqual(self.plainly("GET", "/minio/health/ready", []).status, 200)

    def test_no_kms(self) -> None:
        """
        A server without KMS is ready.
        """
        self.serve(encrypts=False)
        self.assertEqual(self.plainly("GET", "/minio/health/ready", []).status, 200)

    def test_refusals(self) -> None:
        """
        Other words and methods are refused.
        """
        for word in ("", "other", "live/", "%6Cive"):
            answer = self.plainly("GET", f"/minio/health/{word}", [])
            self.assert_refused(answer, 403, "AccessDenied")
        answer = self.plainly("POST", "/minio/health/live", [])
        self.assert_refused(answer, 400, "BadRequest")


@implementer(IKMS)
@define
class SlowKMS:
    """
    A KMS that tells its status when the test wants it to.
    """

    asked: "list[Deferred[KMSStatus]]" = field(factory=list)

    async def status(self) -> KMSStatus:
        """
        Wait for the test.
        """
        answer: Deferred[KMSStatus] = Deferred()
        self.asked.append(answer)
        return await answer


def status(*online: bool) -> KMSStatus:
    """
    A state of endpoints.
    """
    endpoints: Sequence[KMSEndpoint] = [KMSEndpoint("https://kes", well) for well in online]
    return KMSStatus("KES", "my-key", tuple(endpoints))


class HealthTests(SyncCase):
    """
    What stands behind the probes.
    """

    def setUp(self) -> None:
        """
        Ask a KMS that answers by and by.
        """
        self.kms, self.clock = SlowKMS(), Clock()
        self.health = Health(FakeStorage(), self.kms, self.clock)

    def ready(self) -> "Deferred[int]":
        """
        The status of a probe, when it is there.
        """

        async def probe() -> int:
            response = await self.health.probe("ready")
            assert response is not None
            return response.status

        return Deferred.fromCoroutine(probe())

    def test_one_call(self) -> None:
        """
        Many probes cost the KMS one call in a while.
        """
        first, second = self.ready(), self.ready()
        self.assertEqual(len(self.kms.asked), 1)
        self.assertNoResult(second)
        self.kms.asked[0].callback(status(False, True))
        self.assertEqual(self.successResultOf(first), 200)
        self.assertEqual(self.successResultOf(second), 200)
        self.assertEqual(self.successResultOf(self.ready()), 200)
        self.clock.advance(FRESH)
        third = self.ready()
        self.assertEqual(len(self.kms.asked), 2)
        self.kms.asked[1].callback(status(False, False))
        self.assertEqual(self.successResultOf(third), 503)

    def test_no_endpoints(self) -> None:
        """
        A KMS within the server cannot be out of reach.
        """
        probe = self.ready()
        self.kms.asked[0].callback(status())
        self.assertEqual(self.successResultOf(probe), 200)

    def test_impatient(self) -> None:
        """
        A prober that goes away leaves the others their answer.
        """
        first, second = self.ready(), self.ready()
        first.cancel()
        self.failureResultOf(first)
        self.kms.asked[0].callback(status(True))
        self.assertEqual(self.successResultOf(second), 200)

    def test_storage(self) -> None:
        """
        A storage that cannot be read is no member of the cluster; one that cannot be written is
        good for reading.
        """
        for storage, expected in (
            (FakeStorage(), (200, 200)),
            (FakeStorage(StorageFailed("gone")), (503, 503)),
            (FakeStorage(None, StorageFull()), (503, 200)),
        ):
            health = Health(storage, None, self.clock)
            for word, status in zip(("cluster", "cluster/read"), expected, strict=True):
                response = self.successResultOf(Deferred.fromCoroutine(health.probe(word)))
                assert response is not None
                self.assertEqual(response.status, status)
