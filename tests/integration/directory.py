# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
A real OpenLDAP server with a few people and groups.
"""

import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import define, field

from tests.integration.tools import free_port, require
from tests.kes.certificates import certificate, key_pem, new_key, pem

BASE = "dc=example,dc=org"
LOOKUP = f"cn=lookup,{BASE}"
LOOKUP_PASSWORD = "lookup-password"

#: Passwords by the names that people log in with.
PASSWORDS: Mapping[str, str] = {
    "alice": "alice-password",
    "bob": "bob-password",
    "J\u00f6rg": "p\u00e4ssword",
    "odd*(name)\\": "odd-password",
}

_SCHEMAS = Path("/etc/ldap/schema")
_MODULES = Path("/usr/lib/ldap")
_WAIT = 20.0
_CONFIG = """\
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
pidfile {folder}/slapd.pid
argsfile {folder}/slapd.args
modulepath {modules}
moduleload back_mdb
TLSCertificateFile {folder}/server.crt
TLSCertificateKeyFile {folder}/server.key
disallow bind_anon
database mdb
suffix "{base}"
rootdn "cn=admin,{base}"
directory {folder}/data
maxsize 16777216
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{lookup}" read by * none
"""


def _entry(name: str, *lines: str) -> str:
    return "\n".join((f"dn: {name}", *lines, "", ""))


def _person(uid: str, name: str | None = None) -> str:
    escaped = uid.replace("\\", "\\\\")
    return _entry(
        name or f"uid={escaped},ou=People,{BASE}",
        "objectClass: inetOrgPerson",
        f"uid: {uid}",
        f"cn: {uid}",
        f"sn: {uid}",
        f"userPassword: {PASSWORDS.get(uid, 'another-password')}",
    )


_ENTRIES = "".join(
    (
        _entry(
            BASE, "objectClass: dcObject", "objectClass: organization", "dc: example", "o: Example"
        ),
        *(
            _entry(f"ou={unit},{BASE}", "objectClass: organizationalUnit", f"ou: {unit}")
            for unit in ("People", "Others", "Groups")
        ),
        _entry(
            LOOKUP,
            "objectClass: organizationalRole",
            "objectClass: simpleSecurityObject",
            "cn: lookup",
            f"userPassword: {LOOKUP_PASSWORD}",
        ),
        *(_person(uid) for uid in PASSWORDS),
        # Somebody of the same login name elsewhere.
        _person("twin"),
        _person("twin", f"uid=twin,ou=Others,{BASE}"),
        *(
            _entry(
                f"cn={group},ou=Groups,{BASE}",
                "objectClass: groupOfNames",
                f"cn: {group}",
                *(f"member: uid={uid},ou=People,{BASE}" for uid in members),
            )
            for group, members in {"Readers": ("alice", "bob"), "Writers": ("alice",)}.items()
        ),
    )
)


@define
class DirectoryServer:
    """
    A server that listens on loopback, over plain LDAP and over TLS.

    :ivar authority: The certificate that vouches for it, which is its own.
    """

    folder: Path
    plain_port: int = field(factory=free_port)
    tls_port: int = field(factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def authority(self) -> Path:
        """
        The certificate that vouches for it, which is its own.
        """
        return self.folder / "server.crt"

    def start(self) -> None:
        """
        Start it, and wait until it listens.

        :raises SkipTest: It is not installed.
        """
        slapd, slapadd = require("slapd"), require("slapadd")
        (self.folder / "data").mkdir(parents=True)
        key = new_key()
        (self.folder / "server.key").write_bytes(key_pem(key))
        self.authority.write_bytes(pem(certificate(key)))
        config, entries = self.folder / "slapd.conf", self.folder / "entries.ldif"
        config.write_text(
            _CONFIG.format(
                schemas=_SCHEMAS, modules=_MODULES, folder=self.folder, base=BASE, lookup=LOOKUP
            )
        )
        entries.write_text(_ENTRIES, encoding="utf-8")
        added = subprocess.run(
            [slapadd, "-q", "-f", config, "-l", entries],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WAIT,
            check=False,
        )
        assert added.returncode == 0, added.stderr.decode()
        urls = f"ldap://127.0.0.1:{self.plain_port}/ ldaps://127.0.0.1:{self.tls_port}/"
        with (self.folder / "slapd.log").open("wb") as log:
            self._process = subprocess.Popen(
                [slapd, "-f", config, "-h", urls, "-d", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _WAIT
        for port in (self.plain_port, self.tls_port):
            while not _listens(port):
                assert self._process.poll() is None, (self.folder / "slapd.log").read_text()
                assert time.monotonic() < deadline, "slapd does not listen"
                time.sleep(0.02)

    def stop(self) -> None:
        """
        End it.
        """
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_WAIT)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
