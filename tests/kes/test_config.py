# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.kes.config`` and ``kypello.document``.
"""

from collections.abc import Mapping
from pathlib import Path

from kypello.document import parse_duration
from kypello.errors import ConfigurationError
from kypello.http.tls import Clients, TLSFiles
from kypello.kes.auditconfig import HookSettings, TrailSettings
from kypello.kes.cache import Expiry
from kypello.kes.config import KeyServerConfig, Safety, parse_config
from kypello.kes.limits import Limits
from kypello.kes.policy import Policy
from kypello.kes.proxy import Proxies
from kypello.kes.routes import Setting
from kypello.keystore.fsconfig import FSSettings
from kypello.keystore.table import read_keystore
from tests.cases import SyncCase

_ADMIN, _APP = "a" * 64, "b" * 64

_MINIMAL = f"""\
admin:
  identity: {_ADMIN}
tls:
  key: server.key
  cert: server.crt
keystore:
  fs:
    path: ./keys
"""

_FULL = f"""\
version: v1
address: "[::1]:7374"
admin:
  identity: ${{ADMIN}}
tls:
  key: server.key
  cert: server.crt
  password: ${{PASSWORD}}
  auth: on
  ca: clients
policy:
  my-app:
    allow:
    - /v1/key/create/app-*
    - /v1/status
    deny:
    - /v1/key/create/app-x*
    identities:
    - {_APP}
    - ${{OTHER}}
  empty:
cache:
  expiry:
    any: 5m0s
    unused: 20s
    offline: 1h30m
log:
  error: WARN
  audit: off
keys:
- name: first
- name: second
keystore:
  fs:
    path: /var/lib/keys
"""


def parsed(text: str, environment: Mapping[str, str] | None = None) -> KeyServerConfig:
    """
    Read a text as the file ``kes.yml``.
    """
    return parse_config(text, "kes.yml", environment or {}, read_keystore)


class ParseTests(SyncCase):
    """
    ``parse_config`` reads what is right.
    """

    def test_minimal(self) -> None:
        """
        What is not given has KES's defaults.
        """
        config = parsed(_MINIMAL)
        self.assertEqual((config.host, config.port), ("", 7373))
        self.assertEqual(
            config.tls,
            TLSFiles(Path("server.key"), Path("server.crt"), clients=Clients.KNOWN_BY_KEY),
        )
        self.assertEqual((config.access.admin, config.access.policies), (_ADMIN, {}))
        self.assertEqual(config.expiry, Expiry(300.0, 30.0, 0.0))
        self.assertEqual((config.error_level, config.audit, config.keys), (0, True, ()))
        self.assertEqual((config.keystore, config.warnings), (FSSettings(Path("keys")), ()))

    def test_full(self) -> None:
        """
        Everything is read, with variables expanded where KES does.
        """
        environment = {"ADMIN": _ADMIN, "PASSWORD": "pass", "OTHER": "c" * 64}
        config = parsed(_FULL, environment)
        policy = Policy(
            "my-app", ("/v1/key/create/app-*", "/v1/status"), ("/v1/key/create/app-x*",)
        )
        self.assertEqual((config.host, config.port), ("::1", 7374))
        self.assertEqual(config.access.policies, {_APP: policy, "c" * 64: policy})
        self.assertEqual(
            config.tls,
            TLSFiles(
                Path("server.key"),
                Path("server.crt"),
                "pass",
                Clients.VERIFIED,
                Path("clients"),
            ),
        )
        self.assertEqual(config.expiry, Expiry(300.0, 20.0, 5400.0))
        self.assertEqual((config.error_level, config.audit), (4, False))
        self.assertEqual(config.keys, ("first", "second"))
        self.assertEqual(config.warnings, ())

    def test_strings_only(self) -> None:
        """
        Digits and words that YAML has types for are plain text.
        """
        text = _MINIMAL.replace(_ADMIN, "0123").replace("server.key", "yes")
        config = parsed(text)
        self.assertEqual((config.access.admin, config.tls.key), ("0123", Path("yes")))

    def test_levels(self) -> None:
        """
        Log levels are those of Go: words, words with an offset, and numbers.
        """
        for text, level in (
            ("on", 0),
            ("off", 9),
            ("Error", 8),
            ("INFO+2", 2),
            ("-4", -4),
            ("debug", -4),
        ):
            config = parsed(f"{_MINIMAL}log:\n  error: {text}\n  audit: {text}\n")
            self.assertEqual((config.error_level, config.audit), (level, level <= 0))

    def test_no_password_in_repr(self) -> None:
        """
        The text form of a configuration does not hold the password.
        """
        environment = {"ADMIN": _ADMIN, "PASSWORD": "opensesame", "OTHER": "c" * 64}
        self.assertNotIn("opensesame", repr(parsed(_FULL, environment)))

    def test_calls(self) -> None:
        """
        Single calls have settings; with one that is open to all, no certificate is needed.
        """
        text = f"{_MINIMAL}api:\n  /v1/ready: {{skip_auth: true, timeout: 3s}}\n"
        config = parsed(text)
        self.assertEqual(config.calls, {"/v1/ready": Setting(True, 3.0)})
        self.assertEqual(config.tls.clients, Clients.WELCOME_BY_KEY)
        verified = parsed(text.replace("tls:", "tls:\n  auth: on"))
        self.assertEqual(verified.tls.clients, Clients.WELCOME_VERIFIED)

    def test_proxies(self) -> None:
        """
        Proxies are known by their identities, and have a header.
        """
        proxy = f"  proxy: {{identities: [{_APP}], header: {{cert: X-Tls-Client-Cert}}}}\n"
        config = parsed(_MINIMAL.replace("keystore:", f"{proxy}keystore:"))
        self.assertEqual(config.proxies, Proxies(frozenset({_APP}), "x-tls-client-cert"))

    def test_safety(self) -> None:
        """
        What goes beyond the original is in a section of its own, and off by default.
        """
        text = (
            f"{_MINIMAL}kypello:\n  limits: {{requests: 900, requests_per_identity: 100}}\n"
            "  cache: {keys: 50}\n  deletion: confirmed\n  readable_secrets: allowed\n"
        )
        self.assertEqual(parsed(text).safety, Safety(Limits(900, 100), 50, True, True))
        self.assertEqual(parsed(_MINIMAL).safety, Safety(Limits(0, 0), 10_000, False, False))

    def test_audit(self) -> None:
        """
        The audit log can have a file, with a key; a key that is named must be there.
        """
        text = f"{_MINIMAL}kypello: {{audit: {{file: /a/log, key_file: /a/key}}}}\n"
        self.assertEqual(parsed(text).safety.trail, TrailSettings(Path("/a/log"), Path("/a/key")))
        plain = text.replace(", key_file: /a/key", "")
        self.assertEqual(parsed(plain).safety.trail, TrailSettings(Path("/a/log")))
        for audit, mistakes in (
            ("{}", 1),
            ('{file: ""}', 1),
            ('{file: /a, key_file: ""}', 1),
            ("{a: b}", 2),
            ("{webhook: {url: 'https://a'}, key_file: /a}", 1),
            ("{webhook: {token: a}}", 1),
            ("{webhook: {url: 'ftp://a'}}", 1),
            ("{webhook: {url: 'https://user:opensesame@a'}}", 1),
            ('{webhook: {url: "https://a", ca: ""}}', 1),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                parsed(f"{_MINIMAL}kypello: {{audit: {audit}}}\n")
            self.assertEqual(len(caught.exception.mistakes), mistakes, caught.exception.mistakes)
            self.assertNotIn("opensesame", repr(caught.exception.mistakes))

    def test_webhook(self) -> None:
        """
        The audit log can go to a webhook, whose token is a secret.
        """
        text = f"{_MINIMAL}kypello: {{audit: {{webhook: {{url: 'http://a:1/b'}}}}}}\n"
        self.assertEqual(parsed(text).safety.hook, HookSettings("http://a:1/b"))
        self.assertIsNone(parsed(text).safety.trail)
        more = text.replace("'http://a:1/b'", "'https://a', token: opensesame, ca: /a/ca")
        config = parsed(more)
        self.assertEqual(config.safety.hook, HookSettings("https://a", "opensesame", Path("/a/ca")))
        self.assertNotIn("opensesame", repr(config))
        self.assertTrue(config.secrets)

    def test_policy_for_nobody(self) -> None:
        """
        A policy without identities exists.
        """
        config = parsed(f"{_MINIMAL}policy: {{p: {{allow: [/v1/status]}}}}\n")
        self.assertEqual(config.access.named, {"p": Policy("p", ("/v1/status",))})

    def test_secrets(self) -> None:
        """
        A file that tells a secret itself is known from one that names where it is.
        """
        for password, told in (
            ("opensesame", True),
            ("/starts/so", True),
            ("${PASSWORD}", False),
            ("", False),
        ):
            text = _MINIMAL.replace("tls:", f'tls:\n  password: "{password}"')
            self.assertEqual(parsed(text, {"PASSWORD": "x"}).secrets, told)

    def test_tokens(self) -> None:
        """
        A token of Kubernetes is a secret, and the path of one is none.
        """
        start = _MINIMAL.partition("keystore:")[0]
        for token, told in (("abc.def", True), ("/run/token", False), ("run/token", False)):
            text = (
                f"{start}keystore: {{vault: {{endpoint: 'https://a', "
                f"kubernetes: {{role: r, jwt: {token}}}}}}}\n"
            )
            self.assertEqual(parsed(text).secrets, told)


class WarningTests(SyncCase):
    """
    What is written in an old way, or has no effect, is told with its line.
    """

    def test_old_spellings(self) -> None:
        """
        What KES before 2022 called otherwise is understood, with a warning.
        """
        text = (
            f"root: {_ADMIN}\ntls: {{key: server.key, cert: server.crt}}\n"
            f"policy:\n  p:\n    paths: [/v1/status]\n    identities: [{_APP}]\n"
            "keys:\n  fs: {path: ./keys}\n"
        )
        config = parsed(text)
        self.assertEqual(config.access.admin, _ADMIN)
        self.assertEqual(config.access.policies[_APP].allow, ("/v1/status",))
        self.assertEqual(config.keystore, FSSettings(Path("keys")))
        self.assertEqual(
            [warning.partition(" is of")[0] for warning in config.warnings],
            ["kes.yml:1: root:", "kes.yml:5: policy.p.paths:", "kes.yml:8: keys:"],
        )

    def test_open_keys(self) -> None:
        """
        A call that tells or does more than probes need is warned of when everybody may make it.
        """
        for path in ("/v1/key/list/", "/v1/log/audit", "/v1/policy/read/"):
            text = f"{_MINIMAL}api:\n  {path}: {{skip_auth: true}}\n"
            (warning,) = parsed(text).warnings
            self.assertIn("lets everybody who reaches the server make this call", warning)

    def test_glob_in_allow(self) -> None:
        """
        An old wildcard in an allow rule allows nothing, which is safe, and is warned of.
        """
        text = f"{_MINIMAL}policy:\n  p:\n    allow:\n    - /v1/key/*/a\n"
        (warning,) = parsed(text).warnings
        self.assertTrue(warning.startswith("kes.yml:12: policy.p.allow[0]: in '/v1/key/*/a'"))

    def test_identity_that_fits_nobody(self) -> None:
        """
        An identity that no key can have is warned of.
        """
        text = f"{_MINIMAL}policy:\n  p:\n    identities:\n    - ABC\n"
        (warning,) = parsed(text).warnings
        self.assertTrue(warning.startswith("kes.yml:12: policy.p.identities[0]: fits nobody"))

    def test_administrator_that_fits_nobody(self) -> None:
        """
        The same counts for the administrator.
        """
        (warning,) = parsed(_MINIMAL.replace(_ADMIN, "nobody")).warnings
        self.assertIn("admin.identity: fits nobody", warning)
        self.assertEqual(parsed(_MINIMAL.replace(_ADMIN, "disabled")).warnings, ())

    def test_rule_that_fits_no_path(self) -> None:
        """
        A rule that no path can fit is warned of, unless it is to deny something: that is refused.
        """
        text = f"{_MINIMAL}policy:\n  p:\n    allow: ['*', v1/status]\n"
        (warning,) = parsed(text).warnings
        self.assertTrue(warning.startswith("kes.yml:"), warning)
        self.assertIn("policy.p.allow[1]: 'v1/status' fits no path", warning)
        with self.assertRaises(ConfigurationError):
            parsed(text.replace("allow", "deny"))


class MistakeTests(SyncCase):
    """
    What is wrong is refused, with its line.
    """

    def mistakes(self, text: str) -> tuple[str, ...]:
        """
        What is wrong with a text.
        """
        with self.assertRaises(ConfigurationError) as caught:
            parsed(text)
        return caught.exception.mistakes

    def assert_mistake(self, text: str, expected: str) -> None:
        """
        Check that a text has one mistake, which begins so.
        """
        (mistake,) = self.mistakes(text)
        self.assertTrue(mistake.startswith(expected), mistake)

    def test_empty(self) -> None:
        """
        All that is missing is told at once.
        """
        self.assertEqual(len(self.mistakes("")), 4)

    def test_all_at_once(self) -> None:
        """
        Independent mistakes are reported together.
        """
        text = _MINIMAL.replace("path:", "way:") + "address: host:1\ncache: {expiry: {any: soon}}\n"
        lines = [mistake.split(" ")[0:2] for mistake in self.mistakes(text)]
        self.assertEqual(
            lines,
            [
                ["kes.yml:9:", "address:"],
                ["kes.yml:10:", "cache.expiry.any:"],
                ["kes.yml:8:", "keystore.fs.way:"],
                ["kes.yml:8:", "keystore.fs.path:"],
            ],
        )

    def test_glob_in_deny(self) -> None:
        """
        A deny rule that would silently deny nothing is refused, and the message names it.
        """
        for rule in ("/v1/key/*/bucket1-key", "/v1/key/create/a?", "/v1/key/create/[ab]"):
            text = f"{_MINIMAL}policy:\n  p:\n    deny:\n    - {rule}\n"
            self.assert_mistake(text, f"kes.yml:12: policy.p.deny[0]: in {rule!r} the sign")

    def test_single_mistakes(self) -> None:
        """
        Each mistake is told by its line and name.
        """
        head = "kes.yml:9: "
        for text, expected in (
            ("address: 1.2.3.4\n", "address: must end with a port"),
            ("address: 1.2.3.4:0\n", "address: must end with a port"),
            ("version: v2\n", "version: must be v1"),
            ("root: x\n", "root: is the old name of admin.identity, which is there too"),
            ("more: 1\n", "more: is unknown"),
            ("api: {/v1/redy: {}}\n", "api./v1/redy: is no call"),
            ("api: {/v1/ready: {skip_auth: maybe}}\n", "api./v1/ready.skip_auth: must be true"),
            ("api: {/v1/ready: {timeout: 5}}\n", "api./v1/ready.timeout: must be a duration"),
            ("api: {/v1/ready: {auth: a}}\n", "api./v1/ready.auth: is unknown"),
            ("kypello: {limits: {requests: many}}\n", "kypello.limits.requests: must be a number"),
            ("kypello: {limits: {requests: 0}}\n", "kypello.limits.requests: must be a number"),
            ("kypello: {cache: {keys: -1}}\n", "kypello.cache.keys: must be a number"),
            ("kypello: {deletion: never}\n", "kypello.deletion: must be plain or confirmed"),
            ("kypello: {delete: plain}\n", "kypello.delete: is unknown"),
            ("policy: [a]\n", "policy: must hold names with values"),
            (
                "policy: {p: {paths: [/a], allow: [/b]}}\n",
                "policy.p.paths: is the old name of allow, which is there too",
            ),
            ("policy: {a b: {}}\n", "policy.a b: is no valid name"),
            ("keys: {a: b}\n", "keys: must be a list; the section keystore"),
            ("keys: a\n", "keys: must be a list"),
            ("keys: [{name: a.b}]\n", "keys[0].name: 'a.b' is no key name"),
            ("keys: [{name: a}, {name: a}]\n", "keys[1].name: a is given twice"),
            ("log: {error: loud}\n", "log.error: must be on, off"),
            ("cache: {expiry: {unused: 5}}\n", "cache.expiry.unused: must be a duration"),
            (
                f"policy: {{p: {{identities: [{_ADMIN}]}}}}\n",
                "policy.p.identities[0]: is the identity of the administrator",
            ),
            (
                f"policy: {{p: {{identities: [{_APP}]}}, q: {{identities: [{_APP}]}}}}\n",
                "policy.q.identities[0]: is in the policy p already",
            ),
            ("policy: {p: {identities: [a.b]}}\n", "policy.p.identities[0]: is no identity"),
            ("version: {a: b}\n", "version: must be one value"),
            ("version: v1\nversion: v1\n", "version: is given twice"),
        ):
            self.assert_mistake(_MINIMAL + text, head + expected)

    def test_proxy_with_policy(self) -> None:
        """
        A proxy may have no policy.
        """
        proxy = f"  proxy: {{identities: [{_APP}], header: {{cert: X}}}}\n"
        text = _MINIMAL.replace("keystore:", f"{proxy}keystore:")
        self.assert_mistake(
            f"{text}policy: {{p: {{identities: [{_APP}]}}}}\n",
            "kes.yml:6: tls.proxy.identities[0]: is in the policy p: a proxy has none",
        )

    def test_tls(self) -> None:
        """
        Contradictions and unknown names in the section ``tls`` are refused.
        """
        for text, expected in (
            ("  auth: maybe\n", "tls.auth: must be on or off"),
            ("  certs: x\n", "tls.certs: is unknown; known here: key, cert"),
            (
                f"  proxy: {{identities: [{_ADMIN}], header: {{cert: X}}}}\n",
                "tls.proxy.identities[0]: is the identity of the administrator",
            ),
            (
                "  proxy: {identities: [a], header: {cert: X}}\n",
                "tls.proxy.identities[0]: is no identity",
            ),
            (
                f"  proxy: {{identities: [{_APP}]}}\n",
                "tls.proxy.header.cert: is required: the name of a header",
            ),
            (
                "  proxy: {header: {cert: X}}\n",
                "tls.proxy.header.cert: needs tls.proxy.identities",
            ),
        ):
            changed = _MINIMAL.replace("keystore:", f"{text}keystore:")
            self.assert_mistake(changed, f"kes.yml:6: {expected}")

    def test_key_stores(self) -> None:
        """
        One key store is needed, of those that are built, and with nothing unknown in it.
        """
        start = _MINIMAL.partition("keystore:")[0]
        for text, expected in (
            ("{azure: {keyvault: {}}}", "keystore: the key store azure.keyvault is not built"),
            ("{fs: {path: a}, kes: {}}", "keystore: must be one, not fs and kes"),
            ("{}", "keystore: is required"),
            ("{azure: {}}", "keystore: is required"),
            ("{fs: {}}", "keystore.fs.path: is required: a directory"),
            ("{fs: {path: a, pass: b}}", "keystore.fs.pass: is unknown; known here: path"),
            ("{fs: {path: a}, memory: {}}", "keystore.memory: is unknown; known here: fs"),
            ("{fs: {path: a}, azure: {x: b}}", "keystore.azure.x: is unknown"),
        ):
            (mistake,) = self.mistakes(f"{start}keystore: {text}\n")
            self.assertTrue(mistake.startswith(f"kes.yml:6: {expected}"), mistake)

    def test_variables(self) -> None:
        """
        A variable that is not set is a mistake; a rule is never expanded.
        """
        self.assert_mistake(
            _MINIMAL.replace(_ADMIN, "${NOBODY}"),
            "kes.yml:2: admin.identity: the environment variable NOBODY is not set",
        )

    def test_no_yaml(self) -> None:
        """
        What is no YAML is told with its line, and not with a trace, nor with what would be missing
        if it were empty.
        """
        (mistake,) = self.mistakes("admin:\n  identity: [a\ntls: b\n")
        self.assertTrue(mistake.startswith("kes.yml:3: no YAML: "), mistake)
        (mistake,) = self.mistakes("\x00")
        self.assertTrue(mistake.startswith("kes.yml:1: no YAML: "), mistake)


class DurationTests(SyncCase):
    """
    ``parse_duration`` reads Go's durations.
    """

    def test_durations(self) -> None:
        """
        Units add up; fractions are allowed.
        """
        for text, seconds in (
            ("0", 0.0),
            ("0s", 0.0),
            ("15s", 15.0),
            ("300ms", 0.3),
            ("5m0s", 300.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            (".5s", 0.5),
            ("720h", 2592000.0),
        ):
            found = parse_duration(text)
            assert found is not None
            self.assertAlmostEqual(found, seconds)

    def test_others(self) -> None:
        """
        A number without a unit, or a negative one, is none.
        """
        for text in ("", "5", "s", "-5s", "5 s", "5d", "1h-5m"):
            self.assertIsNone(parse_duration(text))
