# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.config``.
"""

from pathlib import Path

from kypello.config import Arguments, Config, parse_config
from kypello.errors import ConfigurationError
from kypello.kmsconfig import KESSettings, Reuse, StaticKeySettings
from kypello.model import Identity
from tests.cases import SyncCase

_KEY = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
_KES = {
    "MINIO_KMS_KES_ENDPOINT": "https://kes-{1...2}:7373, https://10.0.0.1/",
    "MINIO_KMS_KES_KEY_NAME": "my-key",
    "MINIO_KMS_KES_KEY_FILE": "client.key",
    "MINIO_KMS_KES_CERT_FILE": "client.crt",
}


class ConfigCase(SyncCase):
    """
    A test that parses configurations.
    """

    def parse(self, *directories: str, address: str | None = None, **variables: str) -> Config:
        """
        Parse one, by default with a directory.
        """
        arguments = Arguments(directories or ("data",), address)
        return parse_config(arguments, variables, lambda path: None)

    def mistakes(self, *directories: str, address: str | None = None, **variables: str) -> str:
        """
        All mistakes of one, in lines.
        """
        with self.assertRaises(ConfigurationError) as caught:
            self.parse(*directories, address=address, **variables)
        return "\n".join(caught.exception.mistakes)


class PlaceTests(ConfigCase):
    """
    Where the data is, and where the server listens.
    """

    def test_defaults(self) -> None:
        """
        A directory is all that must be told.
        """
        self.assertEqual(self.parse(), Config(Path("data"), "", 9000))

    def test_variables(self) -> None:
        """
        Directory and address may come from the environment; the command line counts more.
        """
        variables = {"MINIO_VOLUMES": "/srv/data", "MINIO_ADDRESS": "127.0.0.1:1"}
        config = parse_config(Arguments(), variables, lambda path: None)
        self.assertEqual(
            (str(config.directory), config.host, config.port), ("/srv/data", "127.0.0.1", 1)
        )
        config = self.parse("other", address=":2", **variables)
        self.assertEqual((str(config.directory), config.host, config.port), ("other", "", 2))

    def test_addresses(self) -> None:
        """
        Addresses of both versions and the name of this machine are understood.
        """
        for text, host, port in (
            ("0.0.0.0:9000", "0.0.0.0", 9000),
            ("[::1]:80", "::1", 80),
            ("localhost:0", "127.0.0.1", 0),
        ):
            config = self.parse(address=text)
            self.assertEqual((config.host, config.port), (host, port))

    def test_bad_addresses(self) -> None:
        """
        What is no address is refused with an example.
        """
        for text in ("9000", "host:9000", "::1:9000", ":", ":70000", ":x", "127.0.0.1:-1"):
            self.assertIn("such as :9000", self.mistakes(address=text))

    def test_several_directories(self) -> None:
        """
        Several directories are refused with the reason, however they are written.
        """
        for given in (("a", "b"), ("disk{1...4}",)):
            self.assertIn("keeps its data in one", self.mistakes(*given))
        with self.assertRaises(ConfigurationError):
            parse_config(Arguments(), {"MINIO_VOLUMES": "a b"}, lambda path: None)
        self.assertIn("is a URL", self.mistakes("http://host/data"))

    def test_no_directory(self) -> None:
        """
        Without directory the message says how to name one.
        """
        with self.assertRaises(ConfigurationError) as caught:
            parse_config(Arguments(), {}, lambda path: None)
        self.assertIn("MINIO_VOLUMES", caught.exception.mistakes[0])


class RootTests(ConfigCase):
    """
    Root credentials, and the region.
    """

    def test_given(self) -> None:
        """
        Both parts make an identity.
        """
        config = self.parse(MINIO_ROOT_USER="admin", KYPELLO_ROOT_PASSWORD="change-me")
        self.assertEqual(config.root, Identity("admin", "change-me"))
        self.assertNotIn("change-me", repr(config))

    def test_old_names(self) -> None:
        """
        The names before 2021 work, with a warning.
        """
        config = self.parse(MINIO_ACCESS_KEY="admin", MINIO_SECRET_KEY="change-me")
        self.assertEqual(config.root, Identity("admin", "change-me"))
        self.assertEqual(len(config.warnings), 1)

    def test_mistakes(self) -> None:
        """
        Half of a pair, and what is too short, are refused.
        """
        self.assertIn("go together", self.mistakes(MINIO_ROOT_USER="admin"))
        self.assertIn("go together", self.mistakes(MINIO_ROOT_PASSWORD="change-me"))
        told = self.mistakes(MINIO_ROOT_USER="ad", MINIO_ROOT_PASSWORD="short")
        self.assertEqual(told.count("at least"), 2)
        self.assertNotIn("short", told)

    def test_well_known(self) -> None:
        """
        The password that everybody knows is warned of.
        """
        config = self.parse(MINIO_ROOT_USER="minioadmin", MINIO_ROOT_PASSWORD="minioadmin")
        self.assertEqual(len(config.warnings), 1)

    def test_misspelt(self) -> None:
        """
        A name that is unknown is warned of, and told among the mistakes when there are any: it
        may be what is missing.
        """
        (warning,) = self.parse(MINIO_KSM_AUTO_ENCRYPTION="on").warnings
        self.assertIn("is MINIO_KMS_AUTO_ENCRYPTION meant?", warning)
        (warning,) = self.parse(MINIO_KMS_KES_ENDPONT="https://kes").warnings
        self.assertIn("is MINIO_KMS_KES_ENDPOINT meant?", warning)
        told = self.mistakes(MINIO_ROOT_USR="admin", MINIO_ROOT_PASSWORD="change-me")
        self.assertIn("go together", told)
        self.assertIn("is MINIO_ROOT_USER meant?", told)

    def test_moving_in(self) -> None:
        """
        What only MinIO needs is told in one line, and what is read elsewhere is not.
        """
        config = self.parse(
            MINIO_VOLUMES="/other",
            MINIO_OPTS="--console-address :9001",
            MINIO_BROWSER="off",
            MINIO_PROMETHEUS_URL="http://prometheus",
            MINIO_SITE_REGION="a",
            MINIO_REGION="b",
        )
        told = "MINIO_BROWSER, MINIO_PROMETHEUS_URL: no effect here."
        self.assertEqual((config.warnings, config.unused), ((), (told,)))

    def test_region(self) -> None:
        """
        The newer of the names for the region counts.
        """
        self.assertEqual(self.parse(MINIO_REGION="eu-1").region, "eu-1")
        config = self.parse(MINIO_SITE_REGION="eu-2", MINIO_REGION="eu-1")
        self.assertEqual(config.region, "eu-2")
        self.assertIn("MINIO_SITE_REGION", self.mistakes(MINIO_SITE_REGION="a b"))


class KMSTests(ConfigCase):
    """
    Where keys come from.
    """

    def test_kes(self) -> None:
        """
        Lists and patterns of endpoints are expanded; empty variables do not count.
        """
        config = self.parse(**_KES, MINIO_KMS_KES_CAPATH="", MINIO_KMS_AUTO_ENCRYPTION="on")
        self.assertEqual(
            config.kms,
            KESSettings(
                ("https://kes-1:7373", "https://kes-2:7373", "https://10.0.0.1"),
                "my-key",
                key_file=Path("client.key"),
                cert_file=Path("client.crt"),
            ),
        )
        self.assertTrue(config.auto_encryption)

    def test_passphrase_file(self) -> None:
        """
        What seals the keys of the embedded key server is in a file of the configuration, or a
        credential of systemd that is there.
        """
        self.assertIsNone(self.parse().passphrase_file)
        for name in ("KYPELLO_KMS_PASSPHRASE_FILE", "MINIO_KMS_PASSPHRASE_FILE"):
            self.assertEqual(self.parse(**{name: "/run/p"}).passphrase_file, Path("/run/p"))
        config = self.parse(CREDENTIALS_DIRECTORY="/run/c")
        self.assertEqual((config.passphrase_file, config.warnings), (None, ()))
        found = Path("/run/c/kypello-kms-passphrase")
        for answer in ("text", UnicodeDecodeError("utf-8", b"x", 0, 1, "bytes")):

            def read(path: str, answer: str | Exception = answer) -> str | None:
                """
                The credential is the one file there is.
                """
                if isinstance(answer, Exception):
                    raise answer
                return answer if path == str(found) else None

            variables = {"CREDENTIALS_DIRECTORY": "/run/c"}
            config = parse_config(Arguments(("data",)), variables, read)
            self.assertEqual(config.passphrase_file, found)

    def test_unused_passphrase_file(self) -> None:
        """
        It is a mistake with keys that are elsewhere: who gives it believes that they are sealed.
        """
        told = self.mistakes(**_KES, KYPELLO_KMS_PASSPHRASE_FILE="p")
        self.assertIn("KYPELLO_KMS_PASSPHRASE_FILE is for", told)
        config = self.parse(**_KES, CREDENTIALS_DIRECTORY="/run/c")
        self.assertIsNone(config.passphrase_file)

    def test_api_key(self) -> None:
        """
        An API key takes the place of the files, and shows nowhere.
        """
        variables = {name: _KES[name] for name in list(_KES)[:2]}
        config = self.parse(**variables, MINIO_KMS_KES_API_KEY="kes:v1:x")
        assert isinstance(config.kms, KESSettings)
        self.assertEqual(config.kms.api_key, "kes:v1:x")
        self.assertNotIn("kes:v1:x", repr(config))

    def test_static(self) -> None:
        """
        A static key is a name and 32 bytes, and shows nowhere.
        """
        config = self.parse(MINIO_KMS_SECRET_KEY=f"my-key:{_KEY}\n")
        self.assertEqual(
            config.kms, StaticKeySettings("my-key", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef")
        )
        self.assertNotIn("ABC", repr(config))

    def test_bad_static(self) -> None:
        """
        What is no static key is refused without being repeated.
        """
        for text, reason in (
            (_KEY, "NAME:BASE64"),
            (f":{_KEY}", "no key name"),
            ("my-key:QUJD", "3 bytes instead of 32"),
            ("my-key:QUJD!", "not base64"),
        ):
            told = self.mistakes(MINIO_KMS_SECRET_KEY=text)
            self.assertIn(reason, told)
            self.assertNotIn("QUJD", told)

    def test_both(self) -> None:
        """
        KES and a static key are one too many.
        """
        told = self.mistakes(**_KES, MINIO_KMS_SECRET_KEY=f"my-key:{_KEY}")
        self.assertIn("keep one of them", told)

    def test_bad_kes(self) -> None:
        """
        Every gap and contradiction is told, all of them at once.
        """
        for change, reason in (
            ({"MINIO_KMS_KES_ENDPOINT": ""}, "MINIO_KMS_KES_ENDPOINT is missing"),
            ({"MINIO_KMS_KES_ENDPOINT": "http://kes:7373"}, "must begin with https://"),
            ({"MINIO_KMS_KES_ENDPOINT": "kes:7373"}, "is no URL"),
            ({"MINIO_KMS_KES_ENDPOINT": "https://kes/path"}, "must end after host and port"),
            ({"MINIO_KMS_KES_ENDPOINT": "https://u:p@kes"}, "must not hold credentials"),
            ({"MINIO_KMS_KES_ENDPOINT": "https://kes-{1..2}"}, "ranges are written"),
            ({"MINIO_KMS_KES_KEY_NAME": ""}, "MINIO_KMS_KES_KEY_NAME is missing"),
            ({"MINIO_KMS_KES_KEY_NAME": "-x"}, "no key name"),
            ({"MINIO_KMS_KES_KEY_FILE": ""}, "MINIO_KMS_KES_KEY_FILE is missing"),
            ({"MINIO_KMS_KES_CERT_FILE": ""}, "MINIO_KMS_KES_CERT_FILE is missing"),
            ({"MINIO_KMS_KES_API_KEY": "kes:v1:x"}, "say twice who we are"),
            (
                {"MINIO_KMS_KES_CERT_FILE": "", "MINIO_KMS_KES_KEY_FILE": ""},
                "KES must know who we are",
            ),
        ):
            self.assertIn(reason, self.mistakes(**{**_KES, **change}))
        told = self.mistakes("a", "b", address="x", MINIO_KMS_KES_KEY_PASSWORD="p")
        self.assertEqual(len(told.splitlines()), 6)

    def test_other_products(self) -> None:
        """
        Settings of MinIO's own key service are refused, unknown ones warned of.
        """
        self.assertIn("closed product", self.mistakes(MINIO_KMS_SERVER="x"))
        self.assertEqual(len(self.parse(MINIO_KMS_KES_KEYNAME="x").warnings), 1)


class FrontTests(ConfigCase):
    """
    What S3 clients notice.
    """

    def test_domains(self) -> None:
        """
        Domains are compared in lower case, without a dot at the end.
        """
        config = self.parse(MINIO_DOMAIN="S3.example.com, example.org.,,example.org")
        self.assertEqual(config.domains, ("s3.example.com", "example.org"))
        self.assertEqual(self.parse(MINIO_DOMAIN="").domains, ())

    def test_bad_domains(self) -> None:
        """
        What could be no end of a host name is refused.
        """
        for name in ("s3.example.com:9000", "10.0.0.1", "-a.example", "http://a", "a b", "a..b"):
            self.assertIn("no domain", self.mistakes(MINIO_DOMAIN=name))

    def test_signature_version_2(self) -> None:
        """
        Version 2 of signatures counts unless it is turned off.
        """
        self.assertTrue(self.parse().signature_v2)
        self.assertTrue(self.parse(KYPELLO_API_SIGNATURE_V2="").signature_v2)
        self.assertTrue(self.parse(KYPELLO_API_SIGNATURE_V2="on").signature_v2)
        self.assertFalse(self.parse(KYPELLO_API_SIGNATURE_V2="off").signature_v2)

    def test_customer_keys(self) -> None:
        """
        Keys of clients over plain HTTP are taken only when it is allowed.
        """
        self.assertFalse(self.parse().loopback_customer_keys)
        config = self.parse(KYPELLO_API_SSE_C_OVER_LOOPBACK_HTTP="on")
        self.assertTrue(config.loopback_customer_keys)
        self.assertIn("on or off", self.mistakes(KYPELLO_API_SIGNATURE_V2="maybe"))

    def test_account(self) -> None:
        """
        The owner of all buckets is unknown unless 12 digits name it.
        """
        self.assertIsNone(self.parse().account_id)
        self.assertEqual(self.parse(KYPELLO_ACCOUNT_ID="1" * 12).account_id, "1" * 12)
        self.assertIn("12 digits", self.mistakes(KYPELLO_ACCOUNT_ID="1" * 11))

    def test_blocked_encryption(self) -> None:
        """
        New buckets may begin without keys of clients; what else is blocked is a mistake.
        """
        self.assertFalse(self.parse().blocks_customer_keys)
        for text, blocks in (("SSE-C", True), ("NONE", False), ("", False)):
            config = self.parse(KYPELLO_BLOCKED_ENCRYPTION_TYPES=text)
            self.assertEqual(config.blocks_customer_keys, blocks)
        mistakes = self.mistakes(KYPELLO_BLOCKED_ENCRYPTION_TYPES="sse-c")
        self.assertIn("NONE or SSE-C", mistakes)

    def test_proxies(self) -> None:
        """
        Nobody is believed about the address of a client who is not named.
        """
        self.assertEqual(self.parse().access.proxies, ())
        config = self.parse(KYPELLO_TRUSTED_PROXIES="10.0.0.0/8, ::1")
        self.assertEqual([str(one) for one in config.access.proxies], ["10.0.0.0/8", "::1/128"])
        self.assertIn("10.0.0.1/8", self.mistakes(KYPELLO_TRUSTED_PROXIES="10.0.0.1/8"))

    def test_bucket_policies(self) -> None:
        """
        Bucket policies count for everybody, or as in MinIO.
        """
        self.assertTrue(self.parse().access.policies_for_all)
        config = self.parse(KYPELLO_BUCKET_POLICY_SCOPE="anonymous")
        self.assertFalse(config.access.policies_for_all)
        self.assertIn("all or anonymous", self.mistakes(KYPELLO_BUCKET_POLICY_SCOPE="none"))

    def test_metrics(self) -> None:
        """
        Metrics are for those who bring a token, or for everybody.
        """
        self.assertFalse(self.parse().access.public_metrics)
        self.assertFalse(self.parse(MINIO_PROMETHEUS_AUTH_TYPE="jwt").access.public_metrics)
        self.assertTrue(self.parse(KYPELLO_PROMETHEUS_AUTH_TYPE="public").access.public_metrics)
        self.assertIn("jwt or public", self.mistakes(MINIO_PROMETHEUS_AUTH_TYPE="none"))

    def test_storage_classes(self) -> None:
        """
        Labels may be added, but none that promises an archive.
        """
        config = self.parse(KYPELLO_STORAGE_CLASS_LABELS="STANDARD_IA, ONEZONE_IA")
        self.assertEqual(config.storage_classes, {"STANDARD_IA", "ONEZONE_IA"})
        for label in ("GLACIER", "DEEP_ARCHIVE", "GLACIER_IR", "standard_ia", "A B"):
            told = self.mistakes(KYPELLO_STORAGE_CLASS_LABELS=label)
            self.assertIn(f"{label}", told)

    def test_pages(self) -> None:
        """
        Browsers let pages of all origins use a bucket, or of some, or of none.
        """
        self.assertEqual(self.parse().cors_origins, ("*",))
        for text, origins in (
            ("", ("*",)),
            ("*", ("*",)),
            ("off", ()),
            ("https://*.example.com, http://localhost:3000", None),
        ):
            found = self.parse(MINIO_API_CORS_ALLOW_ORIGIN=text).cors_origins
            expected = ("https://*.example.com", "http://localhost:3000")
            self.assertEqual(found, expected if origins is None else origins)
        for text in ("https://*.*.example.com", "https://a b", "https://\u00e9"):
            told = self.mistakes(KYPELLO_API_CORS_ALLOW_ORIGIN=text)
            self.assertIn("MINIO_API_CORS_ALLOW_ORIGIN", told)


class ReuseTests(ConfigCase):
    """
    How far data keys are used again.
    """

    def test_usual(self) -> None:
        """
        Without settings data keys are used again, and for longer in an outage.
        """
        self.assertEqual(self.parse().reuse, Reuse(300, 1_000_000, 300, 10_000, 300))

    def test_given(self) -> None:
        """
        Each can be set, with a unit or in seconds, and turned off; they are known names.
        """
        config = self.parse(
            KYPELLO_KMS_BUCKET_KEY_TIME="1h",
            KYPELLO_KMS_BUCKET_KEY_OBJECTS="7",
            MINIO_KMS_CACHE_TIME="90",
            KYPELLO_KMS_CACHE_KEYS="0",
            KYPELLO_KMS_CACHE_OUTAGE_TIME="2m",
        )
        self.assertEqual(config.reuse, Reuse(3600, 7, 90, 0, 120))
        self.assertEqual(config.warnings, ())

    def test_mistakes(self) -> None:
        """
        What is no time, or no number, or too much, is a mistake each.
        """
        for name, values in (
            ("KYPELLO_KMS_BUCKET_KEY_TIME", ("soon", "-1s", "1.5h", "8000h")),
            ("KYPELLO_KMS_CACHE_KEYS", ("many", "-1", "10000000000")),
        ):
            for value in values:
                self.assertIn(f"{name} must be", self.mistakes(**{name: value}))
