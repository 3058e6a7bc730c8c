# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what ``kypello kms doctor`` finds, with key servers on loopback.
"""

import time
from base64 import b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from kypello.crypto.apikey import APIKey
from kypello.doctor import endpoint
from kypello.doctor.examination import SETTINGS, Examination, Given
from kypello.doctor.findings import Finding, State
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import StaticKeySettings
from kypello.model import EncryptionRequest, ObjectMetadata
from kypello.objects.canary import GuardedKMS
from kypello.objects.datakeys import DataKeys
from kypello.objects.encrypted import EncryptedStore
from kypello.store.directory import DataDirectory
from kypello.store.disk import DiskStore
from kypello.store.readonly import held
from kypello.testing.fakes import BytesSource
from tests.integration.test_kms_agent import OriginalServerCase
from tests.integration.tools import free_port
from tests.kms.realm import DAY, KEY, Peer, Realm, RealmCase
from tests.kms.test_faults import hang

_STATIC = "my-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
_OTHER = "my-key:QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWc="


class DoctorCase(RealmCase):
    """
    A test with a server's settings, and what is found.
    """

    def settings(self, *ports: int, **more: str) -> dict[str, str]:
        """
        The variables of a server that uses these key servers.
        """
        return {
            "MINIO_KMS_KES_ENDPOINT": ",".join(f"https://127.0.0.1:{port}" for port in ports),
            "MINIO_KMS_KES_KEY_NAME": KEY,
            "MINIO_KMS_KES_API_KEY": self.realm.api_key.text,
            "MINIO_KMS_KES_CAPATH": str(self.realm.authority),
            **more,
        }

    async def examined(
        self, variables: Mapping[str, str], directory: Path | None = None
    ) -> list[Finding]:
        """
        What is found.
        """
        found: list[Finding] = []
        with ExitStack() as stack:
            if directory is not None:
                stack.enter_context(held(directory))
            given = Given(directory, directory is not None, None, variables, lambda _path: None)
            await Examination(reactor, given, self.lanes, found.append).run()
        for secret in (self.realm.api_key.text, _STATIC.partition(":")[2]):
            self.assertNotIn(secret, repr(found))
        return found

    def found(self, findings: list[Finding], check: str, port: int | None = None) -> Finding:
        """
        The one finding of a check.
        """
        subject = SETTINGS if port is None else f"https://127.0.0.1:{port}"
        every = [one for one in findings if (one.check, one.subject) == (check, subject)]
        self.assertEqual(len(every), 1, findings)
        return every[0]

    def wrong(self, findings: list[Finding]) -> list[Finding]:
        """
        Those that are no good.
        """
        return [one for one in findings if one.state not in (State.OK, State.SKIPPED)]

    async def store(self, folder: str, key: str = _STATIC) -> Path:
        """
        Make a data directory with an encrypted object.
        """
        path = self.realm.folder / folder
        disk = DiskStore(reactor, DataDirectory(path), 2)
        disk.startService()
        try:
            name, _, encoded = key.partition(":")
            kms = StaticKMS(StaticKeySettings(name, encoded.encode()[:32]), bytes)
            await self.fill(disk, kms)
        finally:
            await disk.stopService()
        return path

    async def fill(self, disk: DiskStore, kms: Any) -> None:
        """
        Store an object under a key of a service.
        """
        guard = GuardedKMS(kms, disk.index, reactor)
        store = EncryptedStore(disk.store, DataKeys(guard, reactor), bytes)
        await store.create_bucket("b", {})
        await store.put(
            "b",
            "k",
            BytesSource([b"data"]),
            lambda _size: ObjectMetadata("etag"),
            EncryptionRequest("AES256"),
        )


class KeyServerTests(DoctorCase):
    """
    Key servers of ours.
    """

    async def test_well(self) -> None:
        """
        Of two servers in order everything is checked, and nothing is wrong; no key is made.
        """
        ports = [(await self.serve(keys="keys")).port for _ in range(2)]
        found = await self.examined(self.settings(*ports))
        self.assertEqual(self.wrong(found), [])
        for check in ("connection", "tls", "clock", "status", "generate", "decrypt"):
            self.found(found, check, ports[0])
        for check in ("describe", "list", "create"):
            self.found(found, check, ports[1])
        self.found(found, "agreement", ports[1])
        self.assertIn(self.realm.api_key.identity, self.found(found, "identity").message)
        keys = self.realm.folder / "keys"
        self.assertEqual([one.name for one in keys.iterdir()], [KEY])

    async def test_wrong_authority(self) -> None:
        """
        A server of another authority is told with the setting to change.
        """
        served = await self.serve()
        other = Realm.make(self.realm.folder, "other")
        variables = self.settings(served.port, MINIO_KMS_KES_CAPATH=str(other.authority))
        finding = self.found(await self.examined(variables), "connection", served.port)
        self.assertEqual(finding.state, State.FAILED)
        self.assertIn("MINIO_KMS_KES_CAPATH", finding.advice)

    async def test_certificates(self) -> None:
        """
        A certificate that has expired, is for another name, or will expire soon, is told.
        """
        for hosts, age, state, words in (
            (("127.0.0.1",), 20, State.FAILED, "expired on"),
            (("10.0.0.1",), 0, State.FAILED, "10.0.0.1"),
            (("127.0.0.1",), 8, State.WARNING, "expires on"),
        ):
            self.files = self.realm.certify("server", hosts, now=time.time() - age * DAY)
            served = await self.serve()
            found = await self.examined(self.settings(served.port))
            (finding,) = self.wrong(found)
            self.assertEqual(finding.state, state)
            self.assertIn(words, finding.message)
            self.assertTrue(finding.advice)

    async def test_wrong_identity(self) -> None:
        """
        A server that does not know us is told as such, with our identity.
        """
        served = await self.serve()
        stranger = APIKey.generate(bytes)
        variables = self.settings(served.port, MINIO_KMS_KES_API_KEY=stranger.text)
        finding = self.found(await self.examined(variables), "identity", served.port)
        self.assertEqual(finding.state, State.FAILED)
        self.assertIn(stranger.identity, finding.message)

    async def test_missing_rights(self) -> None:
        """
        What the policy does not allow is told one by one, with what to allow.
        """
        served = await self.serve(allow="/v1/key/generate/*")
        found = await self.examined(self.settings(served.port))
        finding = self.found(found, "decrypt", served.port)
        self.assertEqual(finding.state, State.FAILED)
        self.assertIn(f"allow /v1/key/decrypt/{KEY}", finding.advice)
        for check, path in (("status", "/v1/status"), ("list", "/v1/key/list/*")):
            finding = self.found(found, check, served.port)
            self.assertEqual(finding.state, State.WARNING)
            self.assertIn(f"allow {path}", finding.advice)

    async def test_no_creation(self) -> None:
        """
        Who may not make keys is warned.
        """
        served = await self.serve(allow="/v1/key/generate/*', '/v1/key/decrypt/*")
        found = await self.examined(self.settings(served.port))
        finding = self.found(found, "create", served.port)
        self.assertEqual(finding.state, State.WARNING)

    async def test_missing_key(self) -> None:
        """
        A key that does not exist is told, and is not made.
        """
        served = await self.serve()
        found = await self.examined(self.settings(served.port, MINIO_KMS_KES_KEY_NAME="nothing"))
        finding = self.found(found, "key", served.port)
        self.assertIn("no key nothing", finding.message)
        self.assertEqual(self.found(found, "create", served.port).state, State.SKIPPED)
        self.assertEqual([one.name for one in (self.realm.folder / "keys").iterdir()], [KEY])

    async def test_other_material(self) -> None:
        """
        Of two servers with other material one is told, without any data.
        """
        first, second = await self.serve(keys="a"), await self.serve(keys="b")
        found = await self.examined(self.settings(first.port, second.port))
        (finding,) = self.wrong(found)
        self.assertEqual(finding, self.found(found, "agreement", second.port))
        self.assertIn(f"https://127.0.0.1:{first.port}", finding.message)

    async def test_down(self) -> None:
        """
        Of servers that refuse, or hang, it is told, while the others are examined.
        """
        self.patch(endpoint, "PATIENCE", 2.0)
        well, hanging, nobody = await self.serve(), self.listen(hang), free_port()
        found = await self.examined(self.settings(well.port, hanging.port, nobody))
        self.assertIn("does not answer", self.found(found, "connection", hanging.port).message)
        self.assertIn("refuses", self.found(found, "connection", nobody).message)
        self.found(found, "decrypt", well.port)
        self.assertEqual(len(self.wrong(found)), 2)

    async def test_skewed_clock(self) -> None:
        """
        A server whose clock is an hour off is told so.
        """

        def late(peer: Peer) -> None:
            body = b'{"version":"1.0"}'
            date = formatdate(time.time() - 3600, usegmt=True).encode()
            peer.send(
                b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (date, len(body), body)
            )

        server = self.listen(late)
        finding = self.found(await self.examined(self.settings(server.port)), "clock", server.port)
        self.assertEqual(finding.state, State.WARNING)
        self.assertIn("3600 seconds behind", finding.message)

    async def test_no_key_server(self) -> None:
        """
        What answers, but is no key server, is told so.
        """
        server = self.listen(lambda peer: peer.answer(200, b"<html>"))
        found = await self.examined(self.settings(server.port))
        self.assertEqual(self.found(found, "status", server.port).state, State.FAILED)


class SettingsTests(DoctorCase):
    """
    Settings that cannot be right.
    """

    async def test_mistakes(self) -> None:
        """
        Every mistake of the settings, or the files that they name, is told.
        """
        variables = self.settings(1, MINIO_KMS_SECRET_KEY=_STATIC)
        found = await self.examined(variables)
        self.assertEqual([one.check for one in self.wrong(found)], ["configuration"])
        variables = self.settings(1, MINIO_KMS_KES_CAPATH=str(self.realm.folder / "nothing"))
        self.assertIn(
            "nothing", self.found(await self.examined(variables), "configuration").message
        )

    async def test_unknown(self) -> None:
        """
        What is ignored is told; what only MinIO needs may stay.
        """
        found = await self.examined(
            {"MINIO_KMS_SECRET_KEY": _STATIC, "MINIO_KMS_TYPO": "x", "MINIO_BROWSER": "off"}
        )
        (finding,) = self.wrong(found)
        self.assertEqual(finding.state, State.WARNING)
        self.assertIn("MINIO_KMS_TYPO", finding.message)
        self.assertIn("MINIO_BROWSER: no effect here", [one.message for one in found])


class DataTests(DoctorCase):
    """
    The keys that data needs.
    """

    async def test_static(self) -> None:
        """
        A static key is checked against the data, and the data counted when it is another one.
        """
        path = await self.store("data", "my-key:" + "A" * 32)
        listed = sorted(path.rglob("*"))
        right = "my-key:" + b64encode(b"A" * 32).decode()
        self.assertEqual(self.wrong(await self.examined({"MINIO_KMS_SECRET_KEY": right}, path)), [])
        canary, need = self.wrong(await self.examined({"MINIO_KMS_SECRET_KEY": _OTHER}, path))
        self.assertIn("fingerprint", canary.message)
        self.assertIn("1 objects (1 versions)", need.message)
        self.assertEqual(sorted(path.rglob("*")), listed)

    async def test_key_servers(self) -> None:
        """
        Each key server has to hold the keys of the data; one that lost a key, or holds another, is
        told with the fingerprint.
        """
        right, other = await self.serve(keys="right"), await self.serve(keys="other")
        client = self.client(self.realm.settings(right.port))
        path = self.realm.folder / "data"
        disk = DiskStore(reactor, DataDirectory(path), 2)
        disk.startService()
        await self.fill(disk, client.kms)
        await disk.stopService()
        found = await self.examined(self.settings(right.port, other.port), path)
        self.assertEqual(self.found(found, "canary", right.port).state, State.OK)
        finding = self.found(found, "canary", other.port)
        self.assertEqual(finding.state, State.FAILED)
        self.assertIn("fingerprint", finding.message)
        self.assertIn("1 objects", repr([one for one in found if one.check == "need"]))

    async def test_retired(self) -> None:
        """
        A master key that is gone, and that nothing needs any more, is nothing wrong; as long as
        anything needs it, it is.
        """
        right = await self.serve(keys="right")
        static = {"MINIO_KMS_SECRET_KEY": "my-key:" + b64encode(b"A" * 32).decode()}
        path = await self.store("data", "old-key:" + "A" * 32)
        for settings in (static, self.settings(right.port)):
            found = self.wrong(await self.examined(settings, path))
            self.assertEqual([each.check for each in found], ["canary", "need"])
        disk = DiskStore(reactor, DataDirectory(path), 2)
        disk.startService()
        await disk.store.delete("b", "k")
        await disk.store.delete_bucket("b")
        await disk.stopService()
        for settings in (static, self.settings(right.port)):
            found = await self.examined(settings, path)
            self.assertEqual(self.wrong(found), [])
            (canary,) = [one for one in found if one.check == "canary"]
            self.assertIn("nothing needs", canary.message)
            self.assertIn("old-key", canary.message)

    async def test_embedded(self) -> None:
        """
        Without settings the key server inside is looked for in the directory.
        """
        found = await self.examined({})
        self.assertEqual(self.found(found, "keys").state, State.SKIPPED)
        path = await self.store("data", "my-key:" + "A" * 32)
        finding = self.found(await self.examined({}, path), "keys")
        self.assertEqual(finding.state, State.FAILED)
        self.assertIn("kes/keys", finding.message)


class OriginalTests(OriginalServerCase, DoctorCase):
    """
    The original key server.
    """

    async def started(self, **options: Any) -> int:
        """
        Start one with the key.
        """
        port = free_port()
        self.start_kes(port, **options)
        await self.ready(self.client(self.realm.settings(port)).kms)
        return port

    async def test_well(self) -> None:
        """
        In order, all is well once it has its key; before, that is told.
        """
        port = await self.started()
        found = await self.examined(self.settings(port))
        (finding,) = self.wrong(found)
        self.assertEqual(finding, self.found(found, "key", port))
        await self.client(self.realm.settings(port)).kms.create_key(KEY)
        found = await self.examined(self.settings(port))
        self.assertEqual(self.wrong(found), [])
        for check in ("clock", "describe", "list", "create", "decrypt"):
            self.assertEqual(self.found(found, check, port).state, State.OK)

    async def test_rights(self) -> None:
        """
        Missing rights, and an identity that it does not know, are told.
        """
        port = await self.started()
        await self.client(self.realm.settings(port)).kms.create_key(KEY)
        limited = free_port()
        self.start_kes(limited, allow="/v1/key/generate/*")
        stranger = APIKey.generate(bytes)
        await self.ready(self.client(self.realm.settings(limited)).kms)
        found = await self.examined(self.settings(limited))
        self.assertEqual(self.found(found, "decrypt", limited).state, State.FAILED)
        found = await self.examined(self.settings(port, MINIO_KMS_KES_API_KEY=stranger.text))
        self.assertIn(stranger.identity, self.found(found, "identity", port).message)

    async def test_certificates(self) -> None:
        """
        An authority that is not trusted, and a certificate that has expired, are told.
        """
        port = await self.started()
        other = Realm.make(self.realm.folder, "other")
        variables = self.settings(port, MINIO_KMS_KES_CAPATH=str(other.authority))
        finding = self.found(await self.examined(variables), "connection", port)
        self.assertIn("MINIO_KMS_KES_CAPATH", finding.advice)
        self.files = self.realm.certify("old", now=time.time() - 20 * DAY)
        port = free_port()
        self.start_kes(port)
        while (found := await self.reached(port)).message == "it refuses connections":
            await deferLater(reactor, 0.1)
        self.assertIn("expired on", found.message)

    async def reached(self, port: int) -> Finding:
        """
        What is found of the connection to a server.
        """
        return self.found(await self.examined(self.settings(port)), "connection", port)

    async def test_other_material(self) -> None:
        """
        Two of them with other material are told apart.
        """
        ports = [await self.started(keys=f"keys-{number}") for number in range(2)]
        for port in ports:
            await self.client(self.realm.settings(port)).kms.create_key(KEY)
        (finding,) = self.wrong(await self.examined(self.settings(*ports)))
        self.assertEqual(finding.check, "agreement")
