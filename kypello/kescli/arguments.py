# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The arguments of the commands of the key server.
"""

from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kypello.kescli import remote, watching
from kypello.kescli.auditing import verify
from kypello.kescli.identities import identity_of, new_identity
from kypello.kescli.migrate import migrate
from kypello.kescli.sealing import seal
from kypello.kescli.setup import init

_REMOTE = """\
The server and who asks it are in the environment, as for KES:
  MINIO_KES_SERVER, KES_SERVER             HOST:PORT, more with commas; default 127.0.0.1:7373
  MINIO_KES_API_KEY, KES_API_KEY           an API key, or else
  MINIO_KES_KEY_FILE, KES_CLIENT_KEY       a private key and
  MINIO_KES_CERT_FILE, KES_CLIENT_CERT     a certificate
  MINIO_KMS_KES_CAPATH, SSL_CERT_FILE      whose certificates are trusted
and MinIO's MINIO_KMS_KES_ENDPOINT, _API_KEY, _KEY_FILE, _CERT_FILE.
"""
_COMMANDS = """\
Examples:
  kypello kes server --dev
      Try things: a key server with keys in memory, and what a client has to set.
  kypello kes init ./kes
      Make a key server of one's own: certificates, API keys and a configuration.
  kypello kes server --config ./kes/kes.yml
      Run it.
  kypello kes key create another-key
      Make a master key on it, beside the one that init has named.
  kypello kes migrate --from old.yml --to new.yml
      Copy all keys to another keystore, from KES or from Kypello.
"""
_MIGRATE = """\
Both configurations are those of a key server; only their section keystore counts. Keys are copied
as they are, with their names, and read back. A key that the target has with the same bytes is left
alone, so that it can be run again at any time; with other bytes it stays, and is reported.

Exit code: 0 when the target has every key, 1 when not.
"""
_VERIFY = """\
Each record tells the digest of the one before. What was changed, removed, added or brought into
another order is found, and named; so is what was cut off at the end, as far as a head tells of it.
What the server could not finish because it was killed is a note, and no damage.

Exit code: 0 when the chain is unbroken, 1 when not.
"""


def _names(text: str) -> list[str]:
    return [one.strip() for one in text.split(",")]


def _ip(text: str) -> list[str]:
    return [str(ip_address(one)) for one in _names(text)]


def _listening(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(text)
    host = host.removeprefix("[").removesuffix("]")
    return str(ip_address(host)) if host else "", int(port)


# What the parser calls it in messages.
_listening.__name__ = "address"


class Arguments:
    """
    Reads arguments.
    """

    def __init__(self, serve: Callable[[Namespace], int]) -> None:
        """
        Know all commands.

        :param serve: Runs a server.
        """
        self.parser = ArgumentParser(
            prog="kypello kes",
            description="The key server.",
            epilog=_COMMANDS,
            formatter_class=RawDescriptionHelpFormatter,
        )
        self._serve = serve
        commands = self.parser.add_subparsers(required=True, metavar="COMMAND")
        self._server(commands)
        self._key(self._group(commands, "key", "make, use and remove keys"))
        self._identity(self._group(commands, "identity", "make, compute and look up identities"))
        self._policy(self._group(commands, "policy", "look up policies"))
        self._listing(commands)
        self._watching(commands)
        self._migrate(commands)

    def _group(self, commands: Any, name: str, purpose: str) -> Any:
        group = commands.add_parser(
            name, help=purpose, description=purpose[0].upper() + purpose[1:] + "."
        )
        return group.add_subparsers(required=True, metavar="COMMAND")

    def _remote(
        self, commands: Any, name: str, purpose: str, command: remote.Command, answers: bool = True
    ) -> ArgumentParser:
        """
        A command that asks a server.

        :param answers: Whether it prints what the server answers.
        """
        made: ArgumentParser = commands.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            epilog=_REMOTE,
            formatter_class=RawDescriptionHelpFormatter,
        )
        # That of the original takes the letter for something else.
        letters = () if command is watching.status else ("-s",)
        made.add_argument(
            *letters, "--server", metavar="HOST:PORT", help="in place of the environment"
        )
        made.add_argument(
            "-a",
            "--api-key",
            metavar="KEY",
            help="the same; others see it in the list of processes",
        )
        made.add_argument("--ca", metavar="PATH", help="trust these certificates: a file or folder")
        made.add_argument(
            "-k", "--insecure", action="store_true", help="believe whoever answers to be the server"
        )
        made.add_argument("-e", "--enclave", metavar="NAME", help="accepted for KES's sake")
        made.add_argument("--color", metavar="WHEN", help="accepted for KES's sake")
        if answers:
            made.add_argument("--json", action="store_true", help="print JSON")
        made.set_defaults(run=remote.remote(command, command in (watching.metric, watching.follow)))
        return made

    def _server(self, commands: Any) -> None:
        server = commands.add_parser("server", help="run a key server")
        made = server.add_mutually_exclusive_group(required=True)
        made.add_argument("--config", metavar="FILE", help="KES's configuration")
        made.add_argument(
            "--dev", action="store_true", help="try things: keys in memory, everything made now"
        )
        server.add_argument(
            "--addr",
            type=_listening,
            metavar="IP:PORT",
            help="where to listen, whatever the configuration says",
        )
        for old in ("--key", "--cert", "--auth"):
            server.add_argument(old, help=SUPPRESS)
        server.set_defaults(run=self._serve)

        setup = commands.add_parser(
            "init",
            help="make certificates, API keys and a configuration",
            description="Make all that a key server needs, in one folder. Nothing is overwritten.",
        )
        setup.add_argument(
            "directory",
            nargs="?",
            type=Path,
            default=Path("kes"),
            metavar="DIR",
            help="default kes",
        )
        setup.add_argument(
            "--address", metavar="IP:PORT", help="where to listen; default 127.0.0.1:7373"
        )
        setup.add_argument(
            "--host", action="append", default=[], metavar="NAME", help="what clients know it by"
        )
        setup.add_argument("--key", metavar="NAME", help="the first master key; default my-key")
        setup.add_argument(
            "--expiry", default="87600h", metavar="DURATION", help="of certificates; default 87600h"
        )
        setup.add_argument(
            "--self-signed", action="store_true", help="make no authority, but a certificate alone"
        )
        setup.add_argument(
            "--passphrase-file", type=Path, metavar="FILE", help="seal the master keys under it"
        )
        setup.add_argument("-y", "--yes", action="store_true", help="ask nothing")
        setup.set_defaults(run=init)

        sealing = commands.add_parser(
            "seal",
            help="bring the keys of an fs keystore that no server uses under a passphrase",
        )
        sealing.add_argument("directory", type=Path, metavar="DIRECTORY")
        sealing.add_argument(
            "--from",
            dest="old",
            type=Path,
            metavar="FILE",
            help="the passphrase that opens them now",
        )
        sealing.add_argument(
            "--to",
            dest="new",
            type=Path,
            metavar="FILE",
            help="the new one; without it, in clear",
        )
        sealing.set_defaults(run=seal)

    def _key(self, verbs: Any) -> None:
        make = self._remote(verbs, "create", "make keys", remote.create_keys, False)
        make.add_argument("names", nargs="+", metavar="NAME")

        bring = self._remote(verbs, "import", "bring a key of 32 bytes", remote.import_key, False)
        bring.add_argument("name", metavar="NAME")
        bring.add_argument(
            "key", nargs="?", metavar="BASE64", help="without it, a line of standard input"
        )
        bring.add_argument(
            "--cipher", default="AES256", choices=("AES256", "ChaCha20"), help="default AES256"
        )

        info = self._remote(verbs, "info", "tell about a key", remote.describe_key)
        info.add_argument("name", metavar="NAME")

        self._names(self._remote(verbs, "ls", "list keys", remote.list_names), "key")

        remove = self._remote(verbs, "rm", "delete keys for good", remote.remove_keys, False)
        remove.add_argument("names", nargs="+", metavar="NAME")
        remove.add_argument("-f", "--force", action="store_true", help="do not ask")
        remove.add_argument(
            "--objects", metavar="URL", help="an object server that tells first what needs the keys"
        )
        remove.add_argument(
            "--objects-ca", metavar="FILE", help="the certificates that it is trusted by"
        )

        sealing = self._remote(verbs, "encrypt", "seal a message", remote.encrypt)
        sealing.add_argument("name", metavar="NAME")
        sealing.add_argument(
            "message", nargs="?", metavar="MESSAGE", help="without it, standard input"
        )

        opening = self._remote(verbs, "decrypt", "open a message", remote.decrypt)
        opening.add_argument("name", metavar="NAME")
        opening.add_argument("ciphertext", metavar="CIPHERTEXT", help="in base64")
        opening.add_argument("context", nargs="?", metavar="CONTEXT", help="in base64")

        data_key = self._remote(verbs, "dek", "make a data key", remote.generate)
        data_key.add_argument("name", metavar="NAME")
        data_key.add_argument("context", nargs="?", metavar="CONTEXT", help="in base64")

    def _names(self, listing: ArgumentParser, kind: str) -> None:
        listing.add_argument("pattern", nargs="?", metavar="PREFIX")
        listing.set_defaults(kind=kind)

    def _identity(self, verbs: Any) -> None:
        new = verbs.add_parser("new", help="make an API key")
        new.add_argument("name", nargs="?", help="the subject of the certificate")
        new.add_argument("--key", type=Path, metavar="FILE", help="write the private key to it")
        new.add_argument("--cert", type=Path, metavar="FILE", help="write a certificate to it")
        new.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
        new.add_argument("--ip", type=_ip, action="extend", default=[], help="an IP address")
        new.add_argument("--dns", type=_names, action="extend", default=[], help="a host name")
        new.add_argument("--expiry", metavar="DURATION", help="of the certificate; default 720h")
        new.add_argument("--encrypt", action="store_true", help="ask for a password for the key")
        new.set_defaults(run=new_identity)

        of = verbs.add_parser("of", help="compute an identity")
        of.add_argument(
            "subject", metavar="API_KEY|FILE", help="an API key, or a certificate in PEM"
        )
        of.set_defaults(run=identity_of)

        info = self._remote(
            verbs, "info", "tell about an identity, or one's own", remote.describe_identity
        )
        info.add_argument("identity", nargs="?", metavar="IDENTITY")

        self._names(self._remote(verbs, "ls", "list identities", remote.list_names), "identity")

    def _policy(self, verbs: Any) -> None:
        info = self._remote(verbs, "info", "tell about a policy", remote.describe_policy)
        info.add_argument("name", metavar="NAME")
        show = self._remote(verbs, "show", "tell the rules of a policy", remote.show_policy)
        show.add_argument("name", metavar="NAME")
        self._names(self._remote(verbs, "ls", "list policies", remote.list_names), "policy")

    def _listing(self, commands: Any) -> None:
        listing = self._remote(commands, "ls", "list names", remote.list_names)
        listing.add_argument("pattern", nargs="?", metavar="PREFIX")
        kind = listing.add_mutually_exclusive_group()
        for letter, name in (("-i", "identity"), ("-p", "policy")):
            kind.add_argument(
                letter, f"--{name}", dest="kind", action="store_const", const=name, default="key"
            )

    def _watching(self, commands: Any) -> None:
        status = self._remote(commands, "status", "tell how a server is", watching.status)
        status.add_argument("-s", "--short", action="store_true", help="only that it answers")
        status.add_argument("--api", action="store_true", help="tell its calls, too")

        metric = self._remote(
            commands, "metric", "tell the numbers of a server, again and again", watching.metric
        )
        metric.add_argument("--rate", default="5s", metavar="DURATION", help="default 5s")
        metric.add_argument("--once", action="store_true", help="only once")

        log = self._remote(commands, "log", "follow the logs of a server", watching.follow)
        kind = log.add_mutually_exclusive_group()
        kind.add_argument("--audit", action="store_true", help="what was asked (the default)")
        kind.add_argument("--error", action="store_true", help="what went wrong")
        verifying = log.add_subparsers(metavar="COMMAND").add_parser(
            "verify",
            help="see whether somebody has tampered with audit logs in files",
            description="Follow the chain of records in the files that kypello.audit.file names.",
            epilog=_VERIFY,
            formatter_class=RawDescriptionHelpFormatter,
        )
        verifying.add_argument("files", nargs="+", type=Path, metavar="FILE")
        verifying.add_argument(
            "--key-file", type=Path, metavar="FILE", help="what the chain is keyed with"
        )
        verifying.add_argument(
            "--head",
            action="append",
            default=[],
            metavar="NUMBER:DIGEST",
            help="a head that was noted elsewhere; FILE.head counts by itself",
        )
        verifying.add_argument("--json", action="store_true", help="a JSON object for each finding")
        verifying.set_defaults(run=verify)

    def _migrate(self, commands: Any) -> None:
        moving = commands.add_parser(
            "migrate",
            help="copy keys from one keystore to another",
            description="Copy keys from one keystore to another.",
            epilog=_MIGRATE,
            formatter_class=RawDescriptionHelpFormatter,
        )
        moving.add_argument(
            "--from", dest="source", required=True, metavar="FILE", help="a configuration"
        )
        moving.add_argument(
            "--to", dest="target", required=True, metavar="FILE", help="another configuration"
        )
        moving.add_argument(
            "pattern", nargs="?", default="*", metavar="PATTERN", help="as of a shell; default all"
        )
        moving.add_argument(
            "-f", "--force", action="store_true", help="replace keys that differ at the target"
        )
        moving.add_argument(
            "--merge", action="store_true", help="keys that differ at the target are no failure"
        )
        moving.add_argument("--dry-run", action="store_true", help="tell what would be done")
        moving.add_argument("-q", "--quiet", action="store_true", help="tell no progress")
        moving.add_argument("--json", action="store_true", help="a JSON object for each key")
        moving.set_defaults(run=migrate)
