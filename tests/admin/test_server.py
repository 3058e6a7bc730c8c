# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests of what the administration API tells about the server, its settings and its keys.
"""

import json
import os
from time import gmtime
from typing import Any

from attrs import evolve

from kypello.admin.root import AdminResource
from kypello.crypto.payload import decrypt
from kypello.errors import KMSForbidden
from kypello.model import KMSStatus, ObjectMetadata
from kypello.testing.fakes import BytesSource
from kypello.testing.harness import Harness
from tests.admin.front import ROOT, AdminCase, policy
from tests.objects.keyservice import MemoryKMS

_KMS = "/minio/kms/v1/"


class _Forbidding(MemoryKMS):
    """
    A key service that does not tell its state.
    """

    async def status(self) -> KMSStatus:
        """
        Refuse.
        """
        raise KMSForbidden("read its status")


class ServerTests(AdminCase):
    """
    The server tells what is true of it.
    """

    def fill(self, bucket: str, *contents: bytes) -> None:
        """
        Make a bucket with objects.
        """
        self.done(self.store.create_bucket(bucket, {}))
        for number, content in enumerate(contents):
            self.done(
                self.store.put(
                    bucket, f"key-{number}", BytesSource([content]), lambda size: ObjectMetadata("")
                )
            )

    def test_info(self) -> None:
        """
        Space, uptime, buckets, objects and the key service are as they are.
        """
        self.fill("first", b"some", b"content")
        self.fill("second")
        self.scan()
        told = self.told("info")
        self.assertEqual(told["buckets"], {"count": 2})
        self.assertEqual(told["objects"], {"count": 2})
        self.assertEqual(told["versions"], {"count": 2})
        self.assertEqual(told["deletemarkers"], {"count": 0})
        self.assertEqual(told["usage"], {"size": 11})
        (server,) = told["servers"]
        self.assertEqual((server["state"], server["uptime"]), ("online", 7))
        (drive,) = server["drives"]
        space = os.statvfs("/")
        self.assertEqual(drive["totalspace"], space.f_blocks * space.f_frsize)
        self.assertEqual(drive["state"], "ok")
        (endpoint,) = told["services"]["kmsStatus"]
        self.assertEqual(endpoint["status"], "online")

    def test_not_counted_yet(self) -> None:
        """
        Nothing is told as zero as long as a bucket was not counted.
        """
        self.fill("first", b"some")
        self.scan()
        self.fill("second", b"content")
        told = self.told("info")
        for name in ("buckets", "objects", "versions", "deletemarkers", "usage"):
            self.assertEqual(list(told[name]), ["error"])
        told = self.told("datausageinfo")
        self.assertEqual((told["bucketsCount"], told["objectsCount"]), (2, 1))
        self.assertEqual(list(told["bucketsUsageInfo"]), ["first"])

    def test_usage(self) -> None:
        """
        What the buckets hold is told by bucket and in all, with when it was counted.
        """
        self.assertTrue(self.told("datausageinfo")["lastUpdate"].startswith("0001-01-01T00:00:00"))
        self.fill("first", b"some", bytes(2000))
        self.scan()
        told = self.told("datausageinfo?capacity=true")
        self.assertEqual(told["objectsTotalSize"], 2004)
        self.assertEqual((told["versionsCount"], told["deleteMarkersCount"]), (2, 0))
        self.assertEqual(told["bucketsSizes"], {"first": 2004})
        (bucket,) = told["bucketsUsageInfo"].values()
        self.assertEqual((bucket["size"], bucket["objectsCount"]), (2004, 2))
        self.assertEqual(bucket["objectsSizesHistogram"]["LESS_THAN_1024_B"], 1)
        self.assertEqual(bucket["objectsSizesHistogram"]["BETWEEN_1024B_AND_1_MB"], 1)
        self.assertEqual(told["lastUpdate"][:4], f"{gmtime(self.clock.seconds()).tm_year}")
        (bucket,) = self.told("accountinfo")["Buckets"]
        self.assertEqual((bucket["size"], bucket["objects"]), (2004, 2))

    def test_storage(self) -> None:
        """
        The disk is told with its space.
        """
        (disk,) = self.told("storageinfo")["Disks"]
        self.assertGreater(disk["availspace"], 0)

    def test_account(self) -> None:
        """
        Who asks sees their own policy, and the buckets that they may do something in.
        """
        self.fill("mine")
        self.fill("theirs")
        statement = {
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": "arn:aws:s3:::mine",
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        user = self.make_user("somebody", json.dumps(document).encode())
        told = self.told("accountinfo", by=user)
        self.assertEqual(told["AccountName"], "somebody")
        self.assertEqual(told["Policy"]["Statement"][0]["Action"], ["s3:ListBucket"])
        (bucket,) = told["Buckets"]
        self.assertEqual(bucket["name"], "mine")
        self.assertEqual(bucket["access"], {"read": True, "write": False})
        told = self.told("accountinfo")
        self.assertEqual(told["AccountName"], ROOT.access_key)
        self.assertEqual([each["name"] for each in told["Buckets"]], ["mine", "theirs"])

    def test_service(self) -> None:
        """
        The server is stopped and started by who may, and not in a rehearsal.
        """
        told = json.loads(self.send("POST", "service?action=restart&dry-run=true&type=2").body)
        self.assertEqual((told["action"], told["dryRun"]), ("restart", True))
        self.assertEqual(self.services, [])
        user = self.make_user("somebody", policy("admin:ServiceStop"))
        self.send("POST", "service?action=stop&dry-run=false", by=user)
        self.send("POST", "service?action=restart", by=user, status=403)
        self.assertEqual(self.services, ["stop"])
        self.send("POST", "service?action=restart")
        self.assertEqual(self.services, ["stop", "restart"])
        user = self.make_user("other", policy("admin:ServiceFreeze"))
        for action in ("freeze", "unfreeze"):
            self.send("POST", f"service?action={action}&dry-run=true", by=user)
            self.send("POST", f"service?action={action}&dry-run=false", by=user)
            self.assertEqual(self.services[2:], [action])
            self.services.pop()
        answer = self.send("POST", "service?action=odd", status=400)
        self.refused(answer, "XMinioAdminInvalidArgument")

    def test_nothing(self) -> None:
        """
        What clients ask for as a matter of course, and there is none of, is told so.
        """
        self.fill("bucket")
        self.assertIsNone(self.told("list-remote-targets?bucket=bucket"))
        self.assertEqual(self.told("site-replication/info?api-version=1"), {"enabled": False})
        self.assertEqual(self.told("site-replication/status"), {"Enabled": False})
        self.assertIsNone(self.told("tier"))
        self.assertEqual(self.told("list-jobs?jobType="), {"jobs": None})
        self.assertEqual(self.told_secretly("idp-config/openid"), [])

    def test_quota(self) -> None:
        """
        A quota is set, told, changed and removed; what cannot be limited is refused, and changes
        nothing.
        """
        self.fill("bucket")
        call = "get-bucket-quota?bucket=bucket"
        nothing = {"quota": 0, "size": 0, "rate": 0, "requests": 0}
        self.assertEqual(self.told(call), nothing)
        for asked, size in (
            ({"quota": 7, "quotatype": "hard"}, 7),
            ({"size": 8}, 8),
            ({"quota": 9, "size": 9, "rate": 0, "requests": 0}, 9),
        ):
            self.send("PUT", "set-bucket-quota?bucket=bucket", json.dumps(asked).encode())
            told = {**nothing, "quota": size, "size": size, "quotatype": "hard"}
            self.assertEqual(self.told(call), told)
        for asked in (
            {"quota": 1, "quotatype": "fifo"},
            {"quota": 1, "size": 2},
            {"quota": -1},
            {"quota": 1, "rate": 1},
            {"requests": 1},
        ):
            answer = self.send(
                "PUT", "set-bucket-quota?bucket=bucket", json.dumps(asked).encode(), status=400
            )
            self.refused(answer, "XMinioAdminInvalidArgument")
        self.send("PUT", "set-bucket-quota?bucket=bucket", b"[]", status=400)
        self.assertEqual(self.told(call)["quota"], 9)
        self.send("PUT", "set-bucket-quota?bucket=bucket", b'{"quota": 0}')
        self.assertEqual(self.told(call), nothing)
        self.send("GET", "get-bucket-quota?bucket=nothing", status=404)
        self.send("PUT", "set-bucket-quota?bucket=nothing", b'{"quota": 1}', status=404)

    def test_heal(self) -> None:
        """
        Healing has nothing to do, and says so at once.
        """
        self.fill("bucket")
        begun = json.loads(self.send("POST", "heal/bucket/prefix", b"{}").body)
        token = begun["clientToken"]
        ended = json.loads(self.send("POST", f"heal/bucket/prefix?clientToken={token}").body)
        self.assertEqual((ended["Summary"], ended["Items"]), ("finished", None))
        self.send("POST", "heal/", b"{}")
        self.send("POST", "heal/nothing", b"{}", status=404)
        self.assertIsNone(json.loads(self.send("POST", "background-heal/status").body)["HealDisks"])

    def test_refusals(self) -> None:
        """
        What is not offered says so, and what there is instead.
        """
        for method, call in (
            ("PUT", "set-config-kv"),
            ("GET", "trace?s3=true"),
            ("POST", "tier/name"),
        ):
            self.refused(self.send(method, call, status=501), "NotImplemented")

    def test_key_service_that_forbids(self) -> None:
        """
        A key service that does not tell its state keeps nothing else from being told.
        """
        front = evolve(self.front, kms=_Forbidding())
        self.harness = Harness(AdminResource(front), access_log=False)
        told = self.told("info")
        self.assertEqual(told["services"]["kmsStatus"][0]["status"], "offline")
        self.assertEqual(told["mode"], "online")
        self.refused(self.send("GET", f"{_KMS}status", status=403), "XMinioKMSNotAuthorized")


class SettingTests(AdminCase):
    """
    Settings can be read.
    """

    def read(self, call: str) -> str:
        """
        Read settings.
        """
        return decrypt(ROOT.secret_key, self.send("GET", call).body).decode()

    def test_get(self) -> None:
        """
        A subsystem is told in one line, one that there is not is refused.
        """
        self.assertEqual(self.read("get-config-kv?key=region"), "region name= \n")
        self.assertEqual(
            self.read("get-config-kv?key=subnet"), "subnet license= api_key= proxy= \n"
        )
        answer = self.send("GET", "get-config-kv?key=odd", status=400)
        self.refused(answer, "XMinioConfigError")

    def test_export(self) -> None:
        """
        All subsystems are told at once.
        """
        lines = self.read("config").splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["region", "site", "subnet"])

    def test_help(self) -> None:
        """
        Subsystems and their settings are explained.
        """
        keys = self.told("help-config-kv?subSys=&key=")["keysHelp"]
        self.assertEqual([key["key"] for key in keys], ["region", "site", "subnet"])
        told = self.told("help-config-kv?subSys=site&key=region")
        self.assertEqual((told["subSys"], len(told["keysHelp"])), ("site", 1))


class KeyTests(AdminCase):
    """
    Master keys are made, listed and tried.
    """

    def test_life(self) -> None:
        """
        A key that was made is listed, and works, by both APIs.
        """
        self.send("POST", f"{_KMS}key/create?key-id=first-key")
        self.send("POST", "kms/key/create?key-id=second-key")
        for call in ("kms/key/create?key-id=first-key", f"{_KMS}key/create?key-id=first-key"):
            self.refused(self.send("POST", call, status=409), "XMinioKMSKeyExists")
        listed = self.told(f"{_KMS}key/list?pattern=%2A")
        self.assertEqual([key["name"] for key in listed], ["first-key", "my-key", "second-key"])
        (only,) = self.told(f"{_KMS}key/list?pattern=first")
        self.assertEqual(only["name"], "first-key")
        for call in ("kms/key/status", f"{_KMS}key/status"):
            self.assertEqual(self.told(call), {"key-id": "my-key"})
            self.assertEqual(self.told(f"{call}?key-id=first-key"), {"key-id": "first-key"})
            missing = self.told(f"{call}?key-id=nothing")
            self.assertIn("encryption-error", missing)

    def test_status(self) -> None:
        """
        The key service is told with its default key and its endpoints.
        """
        told = self.told(f"{_KMS}status")
        self.assertEqual(told["default-key-id"], "my-key")
        self.assertEqual(set(told["endpoints"].values()), {"online"})
        self.assertEqual(json.loads(self.send("POST", "kms/status").body), told)

    def test_away(self) -> None:
        """
        A key that cannot be tried is told with the reason.
        """
        self.kms.down = True
        self.assertIn("encryption-error", self.told(f"{_KMS}key/status"))

    def test_rights(self) -> None:
        """
        Rights of the key service hold for some keys; those of the older calls for all.
        """
        self.send("POST", f"{_KMS}key/create?key-id=blue-key")
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Action": ["kms:CreateKey", "kms:ListKeys", "kms:KeyStatus"],
            "Resource": ["arn:minio:kms:::blue-*"],
        }
        document = {"Version": "2012-10-17", "Statement": [statement]}
        user = self.make_user("somebody", json.dumps(document).encode())
        (only,) = self.told(f"{_KMS}key/list?pattern=%2A", by=user)
        self.assertEqual(only["name"], "blue-key")
        self.told(f"{_KMS}key/status?key-id=blue-key", by=user)
        self.send("POST", f"{_KMS}key/create?key-id=blue-other", by=user)
        for method, call in (
            ("GET", f"{_KMS}key/status"),
            ("GET", f"{_KMS}key/status?key-id=my-key"),
            ("POST", f"{_KMS}key/create?key-id=red-key"),
            ("GET", f"{_KMS}status"),
            ("POST", "kms/key/create?key-id=blue-third"),
            ("GET", "kms/key/status?key-id=blue-key"),
        ):
            self.send(method, call, by=user, status=403)
        boss = self.make_user("boss", policy("admin:KMSCreateKey", "admin:KMSKeyStatus"))
        self.send("POST", "kms/key/create?key-id=red-key", by=boss)
        self.send("GET", f"{_KMS}key/list?pattern=%2A", by=boss, status=403)

    def test_refused(self) -> None:
        """
        Keys without a name, and lists without a pattern, are refused.
        """
        for method, call in (("POST", "key/create"), ("GET", "key/list")):
            answer = self.send(method, _KMS + call, status=400)
            self.refused(answer, "XMinioAdminInvalidArgument")
        self.refused(self.send("GET", f"{_KMS}apis", status=501), "NotImplemented")


class WithoutKeysTests(AdminCase):
    """
    A server without a key service says so.
    """

    encrypts = False

    def test_refused(self) -> None:
        """
        Calls about keys are refused, and the server tells of no key service.
        """
        for method, call in (
            ("GET", "status"),
            ("GET", "key/status"),
            ("GET", "key/list?pattern=%2A"),
            ("POST", "key/create?key-id=k"),
            ("DELETE", "key/delete?key-id=k"),
            ("GET", "metrics"),
            ("GET", "version"),
        ):
            answer = self.send(method, _KMS + call, status=501)
            self.refused(answer, "NotImplemented")
        self.assertEqual(self.told("info")["services"], {})
