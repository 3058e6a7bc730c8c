# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kes migrate`` between real key stores.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kypello.crypto.masterkey import MasterKey
from kypello.keystore.seal import is_sealed
from tests.cases import SyncCase
from tests.integration import tools
from tests.integration.bao import ROOT, Bao
from tests.integration.emulators import Emulator
from tests.integration.server import base_environment
from tests.integration.test_faults import wait_until
from tests.integration.test_kes_commands import KYPELLO_KES

#: More than the original can migrate.
_MANY = 1100


class MigrateCase(SyncCase):
    """
    A test with a directory of keys.
    """

    def setUp(self) -> None:
        """
        Three keys, and configurations of nothing but a key store.
        """
        self.folder = Path(self.mktemp()).resolve()
        (self.folder / "keys").mkdir(parents=True)
        self.keys: dict[str, bytes] = {}
        self.make("a", "b", "my-key")
        (self.folder / "passphrase").write_text("opensesame\n")
        self.plain = self.config("plain", fs={"path": str(self.folder / "keys")})
        self.sealed = self.config(
            "sealed",
            fs={
                "path": str(self.folder / "sealed"),
                "passphrase_file": str(self.folder / "passphrase"),
            },
        )
        self.back = self.config("back", fs={"path": str(self.folder / "back")})

    def make(self, *names: str) -> None:
        """
        Make keys in the directory.
        """
        for name in names:
            self.keys[name] = MasterKey.generate(os.urandom, 1_800_000_000.0, "me").to_bytes()
            (self.folder / "keys" / name).write_bytes(self.keys[name])

    def config(self, name: str, **keystore: Any) -> str:
        """
        Write a configuration.
        """
        path = self.folder / f"{name}.yml"
        path.write_text(yaml.safe_dump({"keystore": keystore}))
        return str(path)

    def command(self, source: str, target: str, *options: str) -> list[str]:
        """
        The command of a migration.
        """
        return [*KYPELLO_KES, "migrate", "--from", source, "--to", target, *options]

    def environment(self) -> dict[str, str]:
        """
        Where our package is found.
        """
        return {**base_environment(), "PYTHONPATH": os.pathsep.join(sys.path)}

    def migrate(self, source: str, target: str, *options: str, code: int = 0) -> str:
        """
        Migrate, and give what was printed, errors too.
        """
        done = subprocess.run(
            self.command(source, target, *options),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        printed = done.stdout.decode()
        self.assertEqual(done.returncode, code, printed)
        return printed

    def held(self, folder: str = "back") -> Mapping[str, bytes]:
        """
        The files of keys.
        """
        return {path.name: path.read_bytes() for path in (self.folder / folder).iterdir()}


class FilesTests(MigrateCase):
    """
    Between directories.
    """

    def test_there_and_back(self) -> None:
        """
        Keys go under a passphrase, and come out as they were.
        """
        told = self.migrate(self.plain, self.sealed)
        self.assertEqual(told, "Migrated 3 keys successfully!\n")
        self.assertTrue(all(map(is_sealed, self.held("sealed").values())))
        self.migrate(self.sealed, self.back)
        self.assertEqual(self.held(), self.keys)
        told = self.migrate(self.sealed, self.back)
        self.assertEqual(
            told, "Migrated 0 keys successfully!\n3 were there already, with the same bytes.\n"
        )

    def test_dry_run(self) -> None:
        """
        A dry run makes not even the directory, and leaves the source as it is.
        """
        told = self.migrate(self.plain, self.sealed, "--dry-run")
        self.assertEqual(told, "3 keys would be migrated; nothing was changed.\n")
        self.assertFalse((self.folder / "sealed").exists())
        self.assertEqual(self.held("keys"), self.keys)

    def test_pattern(self) -> None:
        """
        A pattern chooses, as in a shell.
        """
        self.migrate(self.plain, self.back, "[ab]")
        self.assertEqual(set(self.held()), {"a", "b"})

    def test_conflict(self) -> None:
        """
        Another key is reported and stays, or is left out, or is replaced.
        """
        self.migrate(self.plain, self.back)
        before = self.keys["a"]
        self.make("a", "c")
        told = self.migrate(self.plain, self.back, code=1)
        self.assertIn("conflict: a: the target has another key of this name", told)
        self.assertIn("Migrated 1 keys.\n", told)
        self.assertEqual(self.held()["a"], before)
        self.assertIn("--merge", self.migrate(self.plain, self.back, "--merge"))
        lines = self.migrate(self.plain, self.back, "--force", "--json").splitlines()
        told_json = [json.loads(line) for line in lines]
        self.assertIn({"key": "a", "outcome": "replaced"}, told_json)
        self.assertEqual(told_json[-1]["summary"]["replaced"], 1)
        self.assertEqual(self.held(), self.keys)

    def test_many(self) -> None:
        """
        More keys than the original can are migrated, with progress; killed on the way, it goes on.
        """
        self.make(*(f"k{number:04}" for number in range(_MANY)))
        process = subprocess.Popen(
            self.command(self.plain, self.back),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        back = self.folder / "back"
        wait_until(lambda: back.exists() and len(os.listdir(back)) > 20)
        process.kill()
        process.wait()
        # A key is there as a whole or not at all; what was being written is hidden.
        part = {name: value for name, value in self.held().items() if not name.startswith(".")}
        self.assertEqual(part, {name: self.keys[name] for name in part})
        told = self.migrate(self.plain, self.back)
        self.assertIn("500 keys ...\n", told)
        found = {name: value for name, value in self.held().items() if not name.startswith(".")}
        self.assertEqual(found, self.keys)

    def test_interrupted(self) -> None:
        """
        Who ends it is told what to do.
        """
        self.make(*(f"k{number:04}" for number in range(_MANY)))
        process = subprocess.Popen(
            self.command(self.plain, self.back),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        back = self.folder / "back"
        wait_until(lambda: back.exists() and len(os.listdir(back)) > 20)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=60)[0].decode()
        self.assertEqual(process.returncode, 1, printed)
        self.assertIn("interrupted: run it again, and it goes on", printed)

    def test_mistakes(self) -> None:
        """
        What cannot be a migration is told, and nothing is made.
        """
        nowhere = self.config("nowhere", fs={"path": str(self.folder / "nowhere")})
        here = {"path": str(self.folder / "back" / ".." / "keys"), "passphrase": "opensesame"}
        same = self.config("same", fs=here)
        server = self.config("server", kes={"endpoint": ["https://127.0.0.1:7373"]})
        for source, target, options, words in (
            (self.plain, self.plain, (), "name the same key store"),
            (self.plain, same, (), "see kypello kes seal"),
            (self.plain, self.back, ("--force", "--merge"), "contradict each other"),
            (nowhere, self.back, (), "No such file"),
            ("https://127.0.0.1:7373", self.back, (), "keys never leave it"),
            (server, self.back, (), "keys never leave it"),
            (str(self.folder / "none.yml"), self.back, (), "No such file"),
        ):
            self.assertIn(words, self.migrate(source, target, *options, code=1))
        self.assertFalse((self.folder / "nowhere").exists())
        self.migrate(self.plain, self.sealed)
        (self.folder / "passphrase").write_text("closesesame\n")
        self.assertIn("passphrase", self.migrate(self.sealed, self.back, code=1))
        self.assertIn("passphrase", self.migrate(self.plain, self.sealed, code=1))

    def test_junk(self) -> None:
        """
        A file that is no key is reported, and the keys are migrated.
        """
        (self.folder / "keys" / "notes").write_text("a secret\n")
        told = self.migrate(self.plain, self.back, code=1)
        self.assertIn("failed: notes: the stored value is not a master key", told)
        self.assertNotIn("a secret", told)
        self.assertEqual(self.held(), self.keys)

    def test_originals_keys(self) -> None:
        """
        The original has migrated what we would, byte for byte.
        """
        full = {
            "admin": {"identity": "disabled"},
            "tls": {"key": "none", "cert": "none"},
        }
        for name in ("plain", "back"):
            path = self.folder / f"{name}.yml"
            path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **full}))
        subprocess.run(
            [tools.require("kes"), "migrate", "--from", self.plain, "--to", self.back],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        self.assertIn("3 were there already", self.migrate(self.plain, self.back))


class ServicesTests(MigrateCase):
    """
    To and from services.
    """

    def bao(self) -> tuple[Bao, str]:
        """
        OpenBao, and a configuration for it.
        """
        bao = Bao.develop(self.folder / "bao")
        self.addCleanup(bao.end)
        bao.mount("kv", "kv", 2)
        policy = 'path "kv/*" { capabilities = ["create", "read", "list", "delete"] }'
        role, secret = bao.app_role(policy, token_period="5m")
        approle = {"id": role, "secret": secret}
        settings = {"endpoint": bao.url, "engine": "kv", "version": "v2", "approle": approle}
        return bao, self.config("bao", vault=settings)

    def test_bao(self) -> None:
        """
        Into OpenBao and out of it; with a policy that forbids a key, the others are migrated.
        """
        self.assertEqual(ROOT, "root")
        bao, vault = self.bao()
        self.migrate(self.plain, vault)
        self.migrate(vault, self.back)
        self.assertEqual(self.held(), self.keys)
        forbidding = (
            'path "kv/*" { capabilities = ["create", "read", "list"] }\n'
            'path "kv/data/no-*" { capabilities = ["read"] }'
        )
        bao.ask("PUT", "sys/policies/acl/kypello", {"policy": forbidding})
        self.make("no-key", "z")
        told = self.migrate(self.plain, vault, code=1)
        self.assertRegex(told, r"failed: no-key: .*403|failed: no-key: .*permission")
        self.assertIn("Migrated 1 keys.", told)

    def test_bao_goes_away(self) -> None:
        """
        When OpenBao dies on the way, that is told, and what was copied is whole.
        """
        bao, vault = self.bao()
        self.make(*(f"k{number:04}" for number in range(_MANY)))
        process = subprocess.Popen(
            self.command(self.plain, vault),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_until(lambda: self.listed(bao) > 20)
        bao.process.kill()
        began = time.monotonic()
        printed = process.communicate(timeout=100)[0].decode()
        self.assertEqual(process.returncode, 1, printed)
        self.assertIn("Error: ", printed)
        self.assertRegex(printed, r"Migrated \d+ keys\.\n")
        self.assertNotIn("successfully", printed)
        self.assertLess(time.monotonic() - began, 100)

    def listed(self, bao: Bao) -> int:
        """
        How many keys OpenBao has.
        """
        try:
            return len(bao.ask("LIST", "kv/metadata")["data"]["keys"])
        except OSError:
            return 0

    def test_aws(self) -> None:
        """
        Into an emulator of AWS and out of it.
        """
        aws = Emulator.moto(self.folder / "moto")
        self.addCleanup(aws.end)
        settings = {
            "endpoint": aws.url,
            "region": "eu-central-1",
            "credentials": {"accesskey": "test", "secretkey": "test"},
        }
        cloud = self.config("aws", aws={"secretsmanager": settings})
        self.migrate(self.plain, cloud)
        self.migrate(cloud, self.back)
        self.assertEqual(self.held(), self.keys)
        self.assertIn("3 were there already", self.migrate(self.back, cloud))
