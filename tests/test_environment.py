# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.environment``.
"""

import errno

from kypello.environment import Environment
from tests.cases import SyncCase


class EnvironmentTests(SyncCase):
    """
    ``Environment`` merges what variables and files say.
    """

    def load(self, files: dict[str, str] | None = None, **variables: str) -> Environment:
        """
        Load from variables and imagined files; one that is called ``locked`` is not readable.
        """

        def read(path: str) -> str | None:
            """
            The text of an imagined file.
            """
            if path == "locked":
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return (files or {}).get(path)

        return Environment.load(variables, read)

    def test_both_names(self) -> None:
        """
        A variable is found under MINIO's prefix whichever was used, and others are not kept.
        """
        environment = self.load(KYPELLO_A="1", MINIO_B="2", HOME="3")
        self.assertEqual((environment.text("MINIO_A"), environment.text("MINIO_B")), ("1", "2"))
        self.assertEqual(environment.named(""), ["MINIO_A", "MINIO_B"])

    def test_contradiction(self) -> None:
        """
        Both names with different values are a mistake that names both and no value; the same
        value twice is none.
        """
        self.assertEqual(self.load(KYPELLO_A="1", MINIO_A="1").mistakes, [])
        (mistake,) = self.load(KYPELLO_A="secret-1", MINIO_A="secret-2").mistakes
        self.assertIn("KYPELLO_A and MINIO_A", mistake)
        self.assertNotIn("secret", mistake)

    def test_file(self) -> None:
        """
        The file of settings counts more than the environment, in any of its spellings.
        """
        text = "# comment\n\nMINIO_A=1\nexport KYPELLO_B='2 3'\n MINIO_C = \"4\"\n"
        environment = self.load({"f": text}, MINIO_CONFIG_ENV_FILE="f", MINIO_A="0", MINIO_D="5")
        found = {name: environment.text(name) for name in environment.named("MINIO_")}
        del found["MINIO_CONFIG_ENV_FILE"]
        self.assertEqual(found, {"MINIO_A": "1", "MINIO_B": "2 3", "MINIO_C": "4", "MINIO_D": "5"})
        self.assertEqual(environment.mistakes, [])

    def test_bad_file(self) -> None:
        """
        Lines that are no settings are mistakes with their number and without their text; so
        is a file that is missing or unreadable.
        """
        environment = self.load({"f": "MINIO_A=1\nsecret\n"}, MINIO_CONFIG_ENV_FILE="f")
        self.assertEqual(environment.mistakes, ["f:2: expected NAME=VALUE."])
        (missing,) = self.load(MINIO_CONFIG_ENV_FILE="gone").mistakes
        self.assertIn("gone", missing)
        (locked,) = self.load(MINIO_CONFIG_ENV_FILE="locked").mistakes
        self.assertIn("Permission denied", locked)

    def test_secret(self) -> None:
        """
        A secret comes from its file, without white space, else from its variable.
        """
        environment = self.load({"f": " pass word\n"}, MINIO_S_FILE="f", MINIO_S="x")
        self.assertEqual(environment.secret("MINIO_S"), "pass word")
        self.assertEqual(self.load(MINIO_S="x").secret("MINIO_S"), "x")
        self.assertIsNone(self.load().secret("MINIO_S"))

    def test_mounted_secret(self) -> None:
        """
        A name is looked for among the mounted secrets first.
        """
        files = {"/run/secrets/f": "mounted", "f": "other"}
        self.assertEqual(self.load(files, MINIO_S_FILE="f").secret("MINIO_S"), "mounted")

    def test_missing_secret(self) -> None:
        """
        A file that does not exist is not given, as images preset such names; it is told.
        """
        environment = self.load(MINIO_S_FILE="gone", MINIO_S="x")
        self.assertEqual(environment.secret("MINIO_S"), "x")
        self.assertEqual((environment.mistakes, len(environment.warnings)), ([], 1))

    def test_flag(self) -> None:
        """
        Flags are on or off in all usual spellings; anything else is a mistake.
        """
        for text in ("on", "ON", "true", "1", "yes", "enabled"):
            self.assertTrue(self.load(MINIO_F=text).flag("MINIO_F"))
        for text in ("off", "false", "0", ""):
            self.assertFalse(self.load(MINIO_F=text).flag("MINIO_F"))
        self.assertFalse(self.load().flag("MINIO_F"))
        environment = self.load(MINIO_F="maybe")
        self.assertFalse(environment.flag("MINIO_F"))
        self.assertEqual(environment.mistakes, ["MINIO_F must be on or off."])

    def test_repr(self) -> None:
        """
        No value shows in the text form.
        """
        self.assertNotIn("swordfish", repr(self.load(MINIO_S="swordfish")))

    def test_misspelt(self) -> None:
        """
        What nobody asks for is told: with the name that may be meant, in the prefix that was
        used or is about keys, or else together.  Values are not repeated.
        """
        environment = self.load(
            MINIO_KMS_SERVER="value-0",
            MINIO_KSM_AUTO_ENCRYPTION="on",
            KYPELLO_WORKER="3",
            MINIO_BROWSER="value-1",
            MINIO_UPDATE="value-2",
            MINIO_ROOT_USER="value-3",
            MINIO_PART_ONE="value-4",
        )
        environment.flag("MINIO_KMS_AUTO_ENCRYPTION")
        environment.text("MINIO_WORKERS")
        environment.secret("MINIO_ROOT_USER")
        environment.named("MINIO_PART_")
        self.assertEqual(
            environment.misspelt(),
            [
                "MINIO_KMS_SERVER is unknown, so it is ignored.",
                "MINIO_KSM_AUTO_ENCRYPTION is unknown, so it is ignored: is"
                " MINIO_KMS_AUTO_ENCRYPTION meant?",
                "KYPELLO_WORKER is unknown, so it is ignored: is KYPELLO_WORKERS meant?",
            ],
        )
        self.assertEqual(environment.unused(), ["MINIO_BROWSER, MINIO_UPDATE: no effect here."])

    def test_all_used(self) -> None:
        """
        When somebody has asked for everything, nothing is told.
        """
        environment = self.load({"/file": "x"}, MINIO_A_FILE="/file", MINIO_B="2")
        environment.secret("MINIO_A")
        self.assertEqual(environment.given("MINIO_B"), ["MINIO_B"])
        self.assertEqual((environment.misspelt(), environment.unused()), ([], []))
