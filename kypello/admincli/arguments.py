# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The arguments of the commands for accounts.
"""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from kypello.admincli import (
    archives,
    buckets,
    encryptionrules,
    keys,
    kms,
    policies,
    rotation,
    users,
)
from kypello.admincli.examples import EXAMPLES
from kypello.admincli.target import DEFAULT_ENDPOINT
from kypello.admincli.work import Work

#: The first words of these commands, and what they are for.
GROUPS = {
    "user": "people and programs that have a secret key",
    "group": "users who have policies in common",
    "policy": "what users and groups may do",
    "key": "access keys that act for a user",
    "iam": "all accounts in one file: move in, move out",
    "bucket": "what becomes of the objects in a bucket",
    "encrypt": "what is encrypted: verify it, or give it other keys",
    "kms": "master keys: what needs them, and whether the key servers can be used",
}

_TARGET = f"""\
Which server, and in whose name: --alias NAME as mc knows it, or --endpoint and --as, or the
variables KYPELLO_ENDPOINT (default {DEFAULT_ENDPOINT}), KYPELLO_ROOT_USER and
KYPELLO_ROOT_PASSWORD (also MINIO_..., and ..._FILE), or AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.

Exit code: 0 when it is done, 1 when it is not, 2 when the arguments are wrong.
"""

_Run: TypeAlias = Callable[[Work], Awaitable[int]]
_Arguments: TypeAlias = Callable[[ArgumentParser], object]


def parser() -> ArgumentParser:
    """
    What reads the arguments.
    """
    whole = ArgumentParser(prog="kypello")
    groups = whole.add_subparsers(required=True, metavar="COMMAND")
    commands = {
        name: groups.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=f"{EXAMPLES[name]}\n{_TARGET}",
            formatter_class=RawDescriptionHelpFormatter,
        ).add_subparsers(required=True, metavar="COMMAND")
        for name, purpose in GROUPS.items()
    }
    # It examines this machine and asks no server, so it has its arguments elsewhere.
    commands["kms"].add_parser(
        "doctor",
        help="check settings, key servers and what data needs: see kypello kms doctor --help",
        add_help=False,
    )
    for group, verb, purpose, run, arguments in _COMMANDS:
        one = commands[group].add_parser(
            verb,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=f"{EXAMPLES[group]}\n{_TARGET}",
            formatter_class=RawDescriptionHelpFormatter,
        )
        for add in arguments:
            add(one)
        _add_target(one)
        one.set_defaults(run=run)
    return whole


def _add_target(one: ArgumentParser) -> None:
    target = one.add_argument_group("server")
    place = target.add_mutually_exclusive_group()
    place.add_argument("--endpoint", metavar="URL", help="such as https://s3.example.com:9000")
    place.add_argument("--alias", metavar="NAME", help="a server that mc knows")
    target.add_argument("--as", dest="as_key", metavar="KEY", help="whose access key to use")
    target.add_argument(
        "--as-secret-file",
        metavar="FILE",
        help="where the secret key of --as is, - for standard input; otherwise it is asked for",
    )
    target.add_argument(
        "--ca", metavar="FILE", help="authorities to trust, in PEM; default those of the system"
    )
    target.add_argument(
        "--json", action="store_true", help="print a JSON object in each line, for scripts"
    )


def _argument(*names: str, **settings: Any) -> _Arguments:
    return lambda one: one.add_argument(*names, **settings)


def _holder(one: ArgumentParser) -> None:
    holder = one.add_mutually_exclusive_group(required=True)
    holder.add_argument("--user", metavar="USER")
    holder.add_argument("--group", metavar="GROUP")


def _secret(required: bool) -> _Arguments:
    def add(one: ArgumentParser) -> None:
        how = one.add_mutually_exclusive_group()
        how.add_argument(
            "--secret-file",
            metavar="FILE",
            help="where the new secret key is, - for standard input",
        )
        how.add_argument(
            "--generate", action="store_true", help="make a secret key, and show it once"
        )
        one.set_defaults(asks_for_secret=required)

    return add


def _status(word: str) -> _Arguments:
    return lambda one: one.set_defaults(status=word)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError(f"{text} is no number of versions in a second")
    return rate


def _rotation(one: ArgumentParser) -> None:
    one.add_argument(
        "target", metavar="BUCKET[/PREFIX]", nargs="?", help="whose objects get other keys"
    )
    one.add_argument("--all", action="store_true", help="those of all buckets, and the accounts")
    one.add_argument("--to", metavar="KEY", help="the master key; default that of the server")
    one.add_argument(
        "--from", dest="source", metavar="KEY", help="only what is under this master key"
    )
    one.add_argument(
        "--type", choices=("sse-s3", "sse-kms"), help="another kind of encryption, too"
    )
    one.add_argument(
        "--context", metavar="JSON", help="what keys of SSE-KMS are bound to; default as it is"
    )
    one.add_argument(
        "--again", action="store_true", help="also what is under the key: it has another version"
    )
    one.add_argument(
        "--encrypt-plain",
        action="store_true",
        help="encrypt what is not, by writing it again; where there are versions, as a new one",
    )
    one.add_argument("--dry-run", action="store_true", help="change nothing; count")
    one.add_argument(
        "--rate", metavar="N", type=_rate, default=0.0, help="change no more in a second"
    )
    one.add_argument(
        "--resume",
        metavar="FILE",
        type=Path,
        help="keep in FILE how far it has come, and go on from there; removed at the end",
    )


def _details(one: ArgumentParser) -> None:
    one.add_argument(
        "--policy", dest="policy_file", metavar="FILE", help="what it may do at most, in JSON"
    )
    one.add_argument("--name", dest="label", metavar="NAME", help="what to call it")
    one.add_argument("--description", metavar="TEXT", help="what it is for")
    one.add_argument("--expires", metavar="TIME", help="when it ends, as 2027-01-31T00:00:00Z")


def _requirement(one: ArgumentParser) -> None:
    what = one.add_mutually_exclusive_group()
    what.add_argument(
        "--kinds",
        metavar="KINDS",
        help="those that are accepted, such as sse-s3,sse-kms; default any, with --key sse-kms",
    )
    what.add_argument("--none", action="store_true", help="require nothing any more")
    one.add_argument(
        "--key",
        dest="keys",
        metavar="KEY",
        action="append",
        default=[],
        help="a master key that is accepted with sse-kms or dsse-kms; several times for several;"
        " default any",
    )


_BUCKET = _argument("name", metavar="BUCKET")
_USER = _argument("name", metavar="USER")
_GROUP = _argument("name", metavar="GROUP")
_POLICY = _argument("name", metavar="POLICY")
_KEY = _argument("key", metavar="KEY")
_ARCHIVE = _argument("archive", metavar="FILE", type=Path, help="a zip of this server or MinIO's")

_ANY_KEY = _argument("key", metavar="KEY", nargs="?", help="a master key; default all")

_COMMANDS: tuple[tuple[str, str, str, _Run, Sequence[_Arguments]], ...] = (
    ("user", "add", "make a user, or set the secret key", users.add_user, (_USER, _secret(True))),
    ("user", "rm", "remove a user with its keys", users.remove_user, (_USER,)),
    ("user", "ls", "list the users", users.list_users, ()),
    ("user", "info", "tell what is known of a user", users.show_user, (_USER,)),
    ("user", "enable", "let a user sign", users.set_user_status, (_USER, _status("enabled"))),
    (
        "user",
        "disable",
        "let a user and its keys sign no more",
        users.set_user_status,
        (_USER, _status("disabled")),
    ),
    (
        "user",
        "policy",
        "print what a user may do, groups included",
        users.show_user_policy,
        (_USER,),
    ),
    (
        "group",
        "add",
        "put users into a group, which is made when there is none",
        users.add_members,
        (_GROUP, _argument("users", metavar="USER", nargs="+")),
    ),
    (
        "group",
        "rm",
        "take users out of a group, or remove it",
        users.remove_members,
        (_GROUP, _argument("users", metavar="USER", nargs="*")),
    ),
    ("group", "ls", "list the groups", users.list_groups, ()),
    ("group", "info", "tell what is known of a group", users.show_group, (_GROUP,)),
    (
        "group",
        "enable",
        "let a group count",
        users.set_group_status,
        (_GROUP, _status("enabled")),
    ),
    (
        "group",
        "disable",
        "let a group count no more",
        users.set_group_status,
        (_GROUP, _status("disabled")),
    ),
    (
        "policy",
        "create",
        "make a policy, or replace one",
        policies.create,
        (_POLICY, _argument("policy_file", metavar="FILE", help="in JSON; - for standard input")),
    ),
    ("policy", "rm", "remove a policy that nobody has", policies.remove, (_POLICY,)),
    ("policy", "ls", "list the policies", policies.show_all, ()),
    ("policy", "info", "print a policy", policies.show, (_POLICY,)),
    (
        "policy",
        "attach",
        "give policies to a user or a group",
        policies.attach,
        (_argument("policies", metavar="POLICY", nargs="+"), _holder),
    ),
    (
        "policy",
        "detach",
        "take policies from a user or a group",
        policies.detach,
        (_argument("policies", metavar="POLICY", nargs="+"), _holder),
    ),
    (
        "policy",
        "entities",
        "tell who has which policies",
        policies.show_entities,
        tuple(
            _argument(f"--{kind}", metavar=kind.upper(), action="append", default=[])
            for kind in ("user", "group", "policy")
        ),
    ),
    (
        "key",
        "create",
        "make a key",
        keys.create,
        (
            _argument("--user", metavar="USER", help="for whom it acts; default whoever asks"),
            _argument("--access-key", metavar="KEY", help="default: one is made"),
            _secret(False),
            _details,
        ),
    ),
    (
        "key",
        "ls",
        "list keys: one's own, or those of users",
        keys.show_all,
        (
            _argument("users", metavar="USER", nargs="*"),
            _argument("--all", action="store_true", help="those of all users"),
        ),
    ),
    ("key", "info", "tell what is known of a key", keys.show, (_KEY,)),
    ("key", "edit", "change a key", keys.edit, (_KEY, _secret(False), _details)),
    ("key", "rm", "remove a key", keys.remove, (_KEY,)),
    ("key", "enable", "let a key sign", keys.set_status, (_KEY, _status("on"))),
    ("key", "disable", "let a key sign no more", keys.set_status, (_KEY, _status("off"))),
    (
        "iam",
        "export",
        "write all accounts, with their secret keys, to a file",
        archives.export,
        (
            _argument("file", metavar="FILE", type=Path, help="- for standard output"),
            _argument("--force", action="store_true", help="overwrite an existing file"),
        ),
    ),
    (
        "iam",
        "import",
        "read accounts from a file into the server",
        archives.import_,
        (
            _ARCHIVE,
            _argument("--dry-run", action="store_true", help="tell what would become of it only"),
            _argument(
                "--old-root",
                metavar="NAME",
                help="the root user of the server that the file is from: its keys become keys of"
                " the root user here",
            ),
        ),
    ),
    (
        "bucket",
        "expiring",
        "tell what its lifecycle removes, without removing it",
        buckets.show_expiring,
        (
            _BUCKET,
            _argument("--at", metavar="TIME", help="as if it were then, as 2027-01-31T00:00:00Z"),
        ),
    ),
    (
        "bucket",
        "require",
        "set which encryption it requires of all that is written",
        encryptionrules.require,
        (_BUCKET, _requirement),
    ),
    (
        "bucket",
        "rules",
        "tell which encryption it has by default, requires and blocks",
        encryptionrules.show,
        (_BUCKET,),
    ),
    ("encrypt", "rotate", "give what is stored other master keys", rotation.rotate, (_rotation,)),
    ("kms", "usage", "count what needs a master key", kms.usage, (_ANY_KEY,)),
)
