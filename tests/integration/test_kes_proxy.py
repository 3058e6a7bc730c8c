# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Our key server behind real proxies, set up as ``docs/key-server.md`` tells.
"""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.integration import tools
from tests.integration.test_faults import wait_until
from tests.integration.test_kes_server import OURS, Person, Running, ServerCase, request
from tests.kes.certificates import certificate, key_pem, new_key, pem

_DOCUMENT = Path(__file__).parents[2] / "docs" / "key-server.md"
_HEADER = "X-Tls-Client-Cert"


def documented(language: str, ports: Mapping[str, int], work: Path) -> str:
    """
    A configuration from the document, for other ports and with files in a folder.
    """
    text = _DOCUMENT.read_text(encoding="utf-8")
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    changed = found.group(1)
    for port, other in ports.items():
        changed = changed.replace(f"127.0.0.1:{port}", f"127.0.0.1:{other}")
    return re.sub(r"\b(\w+\.(?:crt|key|pem))\b", rf"{work}/\1", changed)


class ProxyCase(ServerCase):
    """
    A test with a proxy in front of a key server.
    """

    def setUp(self) -> None:
        """
        A server for host names, and a proxy with an identity.
        """
        super().setUp()
        subprocess.run(
            [
                *OURS[:-1],
                *("identity", "new", "--key", self.server.key, "--cert", self.server.cert, "-f"),
                *("--ip", "127.0.0.1", "--dns", "localhost", "server"),
            ],
            check=True,
            capture_output=True,
        )
        self.proxy = Person.make(self.folder, "proxy")
        for person, name in ((self.server, "server"), (self.proxy, "proxy")):
            both = person.cert.read_bytes() + person.key.read_bytes()
            (self.folder / f"{name}.pem").write_bytes(both)

    def key_server(self, tls: str = "") -> Running:
        """
        Start the key server, with a policy for the user.
        """
        proxy = f"{{identities: [{self.proxy.identity}], header: {{cert: {_HEADER}}}}}"
        policy = (
            "policy:\n  app:\n    allow: [/v1/key/create/app-*]\n"
            f"    identities: [{self.user.identity}]\n"
        )
        return self.start(more=policy, tls=f", proxy: {proxy}{tls}")

    def nginx(self, behind: int) -> Running:
        """
        Start nginx in front of a port.
        """
        port = tools.free_port()
        server = documented("nginx", {"7373": port, "7374": behind}, self.folder)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};\n" for kind in kinds)
        config = self.folder / "nginx.conf"
        config.write_text(
            f"daemon off;\nmaster_process off;\npid {self.folder}/nginx.pid;\n"
            "error_log stderr;\nevents {}\n"
            f"http {{\naccess_log off;\n{temporary}{server}}}\n"
        )
        command = (str(tools.require("nginx")), "-p", str(self.folder), "-c", str(config))
        running = self.run_server(command, port)
        running.wait()
        return running

    def haproxy(self, behind: int) -> Running:
        """
        Start HAProxy in front of a port.
        """
        port = tools.free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(documented("haproxy", {"7373": port, "7374": behind}, self.folder))
        running = self.run_server((str(tools.require("haproxy")), "-f", str(config)), port)
        running.wait()
        return running

    def check(self, kes: Running, proxy: Running) -> None:
        """
        Clients of a proxy are who they are, and nobody else.
        """
        self.kes(proxy, "key", "create", "by-admin")
        self.kes(proxy, "key", "create", "app-1", person=self.user)
        refusal = "not authorized: insufficient permissions"
        self.assertIn(refusal, self.kes(proxy, "key", "create", "other", person=self.user, code=1))
        stranger = Person.make(self.folder, "stranger")
        self.assertIn(refusal, self.kes(proxy, "key", "create", "app-2", person=stranger, code=1))
        names = json.loads(self.kes(proxy, "ls", "--json"))
        self.assertEqual(names, ["app-1", "by-admin"])
        status, body = request(proxy.port, "GET", "/v1/status", None)
        self.assertEqual(
            (status, json.loads(body)["message"]), (400, "no client certificate is present")
        )
        records = [
            json.loads(line[line.index('{"time"') :])["request"]
            for line in kes.log.read_text().splitlines()
            if '{"time"' in line
        ]
        created = {one["path"]: one for one in records if one["path"].startswith("/v1/key/create/")}
        self.assertEqual(created["/v1/key/create/app-1"]["identity"], self.user.identity)
        self.assertEqual({one["ip"] for one in records}, {"127.0.0.1"})


class ProxyTests(ProxyCase):
    """
    Nginx and HAProxy tell who their clients are.
    """

    def test_nginx(self) -> None:
        """
        It works behind nginx as documented.
        """
        kes = self.key_server()
        self.check(kes, self.nginx(kes.port))

    def test_haproxy(self) -> None:
        """
        It works behind HAProxy as documented.
        """
        kes = self.key_server()
        self.check(kes, self.haproxy(kes.port))

    def test_header_is_replaced(self) -> None:
        """
        A client of a proxy cannot tell another certificate than its own.
        """
        kes = self.key_server()
        forged = {_HEADER: quote(self.admin.cert.read_text())}
        for proxy in (self.nginx(kes.port), self.haproxy(kes.port)):
            status, _body = request(proxy.port, "GET", "/v1/status", self.user, headers=forged)
            self.assertEqual(status, 403)
            status, body = request(proxy.port, "GET", "/v1/status", None, headers=forged)
            self.assertEqual((status, b"no client certificate" in body), (400, True))

    def test_verified(self) -> None:
        """
        With ``auth: on`` a certificate that a proxy tells is verified as one that is sent: its
        issuer and its purpose.
        """
        issuer = new_key()
        authority = certificate(issuer, True, "ca")
        (self.folder / "clients.crt").write_bytes(pem(authority))
        for name, who in (("proxy", self.proxy), ("admin", self.admin)):
            key = new_key()
            known = certificate(key, issuer=("ca", issuer), subject=name)
            made = Person.write(self.folder, name, key_pem(key), known)
            (self.folder / f"{name}.pem").write_bytes(
                made.cert.read_bytes() + made.key.read_bytes()
            )
            who.identity = made.identity
        kes = self.key_server(", auth: on, ca: clients.crt")
        proxy = self.nginx(kes.port)
        self.assertEqual(request(proxy.port, "GET", "/v1/status", self.admin)[0], 200)
        self.assertEqual(request(proxy.port, "GET", "/v1/key/create/app-1", self.user)[0], 405)
        status, body = request(proxy.port, "POST", "/v1/key/create/app-1", self.user)
        self.assertEqual(
            (status, json.loads(body)["message"]), (403, "not authorized: insufficient permissions")
        )
        self.assertIn("is none of an authority in use", kes.log.read_text())


class HeaderTests(ProxyCase):
    """
    What the key server makes of the header itself.
    """

    def ask(self, kes: Running, person: Person, **headers: str) -> tuple[int, str]:
        """
        The status of an answer, and what is wrong.
        """
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        status, body = request(kes.port, "GET", "/v1/key/list/*", person, headers=told)
        return status, json.loads(body).get("message", "")

    def test_header(self) -> None:
        """
        A proxy has to tell one certificate; who is no proxy tells none.
        """
        kes = self.key_server()
        admin = quote(self.admin.cert.read_text())
        other = quote(self.admin.cert.read_text() + self.user.cert.read_text())
        authority = quote(pem(certificate(new_key(), True, "ca")).decode())
        form = admin.replace("%20", "+")
        for header, expected in (
            (admin, (200, "")),
            (form, (200, "")),
            ("junk", (400, "invalid client certificate")),
            ("", (400, "no client certificate is present")),
            (other, (400, "too many client certificates are present")),
        ):
            self.assertEqual(self.ask(kes, self.proxy, X_Tls_Client_Cert=header), expected)
        status, message = self.ask(kes, self.proxy, X_Tls_Client_Cert=authority)
        self.assertEqual(status, 400)
        self.assertIn("that of a certificate authority does not count", message)
        self.assertEqual(self.ask(kes, self.user, X_Tls_Client_Cert=admin)[0], 403)
        self.assertEqual(self.ask(kes, self.admin, X_Tls_Client_Cert="junk"), (200, ""))

    def test_address(self) -> None:
        """
        The audit log has the address that a proxy tells first, and only a proxy.
        """
        kes = self.key_server()
        admin = quote(self.admin.cert.read_text())
        for told, expected in (
            ("192.0.2.1, 192.0.2.2", "192.0.2.1"),
            ("192.0.2.3:4711", "192.0.2.3"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("2001:db8::2", "2001:db8::2"),
            ("unknown", "127.0.0.1"),
        ):
            self.ask(kes, self.proxy, X_Tls_Client_Cert=admin, X_Forwarded_For=told)
            self.await_record(kes, expected)
        self.ask(kes, self.admin, X_Forwarded_For="192.0.2.9")
        self.await_record(kes, "127.0.0.1")

    def await_record(self, kes: Running, ip: str) -> None:
        """
        Wait until the last record is about a request from there.
        """
        wait_until(lambda: f'"ip":"{ip}"' in kes.log.read_text().splitlines()[-1])
