# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The commands that ask a key server for one thing: keys, identities, policies.
"""

import json
import os
import sys
from argparse import Namespace
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from getpass import getpass
from typing import Any, TypeAlias
from urllib.parse import quote

from attrs import frozen

from kypello.errors import KypelloError
from kypello.kescli.client import CallRefused, KESCaller, NoAnswer, refused
from kypello.kescli.command import CommandError, asked, finish, printable
from kypello.kescli.needs import tell_needs
from kypello.kescli.target import read_target
from kypello.kms.wire import UNKNOWN_TIME

#: How a deletion is confirmed to servers that want that.
CONFIRMATION = "X-Kypello-Confirm"


@frozen
class Work:
    """
    One command on its way.
    """

    options: Namespace
    client: KESCaller
    reactor: Any

    @property
    def for_scripts(self) -> bool:
        """
        Whether secrets are printed as JSON: nobody looks at them.
        """
        return self.options.json or not sys.stdout.isatty()


Command: TypeAlias = Callable[[Work], Awaitable[None]]


def remote(command: Command, endless: bool = False) -> Callable[[Namespace], int]:
    """
    Make a command that asks a server what can be run.

    :param endless: It goes on until somebody ends it, which is no failure then.
    """

    def run(options: Namespace) -> int:
        target = read_target(options, os.environ)

        async def work(reactor: Any) -> None:
            """
            Ask, and let go of the connections.
            """
            client = KESCaller.make(reactor, target)
            try:
                await command(Work(options, client, reactor))
            except (CallRefused, NoAnswer) as error:
                raise CommandError(str(error)) from error
            finally:
                await client.close()

        finish(work, "" if endless else "interrupted")
        return 0

    return run


def rows(pairs: Sequence[tuple[str, object]]) -> None:
    """
    Print names and values, one pair per line.
    """
    width = max(len(name) for name, _value in pairs) + 2
    for name, value in pairs:
        print(printable(f"{name:<{width}}{value}"))


def when(told: str) -> str:
    """
    A point in time for people.
    """
    if not told or told == UNKNOWN_TIME:
        return "unknown"
    return told[:19].replace("T", " ")


def path(call: str, name: str) -> str:
    """
    Where a call about a name is made.
    """
    return f"/v1/{call}/{quote(name, safe='')}"


def put(value: object) -> None:
    """
    Print a value as JSON.
    """
    print(json.dumps(value, separators=(",", ":")))


# Keys


async def create_keys(work: Work) -> None:
    """
    Make keys.
    """
    for name in work.options.names:
        await _do(
            f'failed to create key "{name}"', work.client.call, "POST", path("key/create", name)
        )


async def import_key(work: Work) -> None:
    """
    Bring a key of 32 bytes.
    """
    name, key = work.options.name, work.options.key
    if key is None:
        # Arguments are kept in histories, and others see them.
        terminal = sys.stdin.isatty()
        key = (asked(getpass, "Key in base64: ") if terminal else sys.stdin.readline()).strip()
    try:
        b64decode(key, validate=True)
    except ValueError:
        raise CommandError(f'failed to import "{name}": the key is not base64') from None
    body = {"key": key, "cipher": work.options.cipher}
    await _do(
        f'failed to import "{name}"', work.client.call, "POST", path("key/import", name), body
    )


async def describe_key(work: Work) -> None:
    """
    Tell about a key.
    """
    name = work.options.name
    told = await _do("failed to describe keys", work.client.ask, "GET", path("key/describe", name))
    if work.options.json:
        put(told)
        return
    pairs = [
        ("Name", name),
        ("Algorithm", told.get("algorithm", "unknown")),
        ("Date", when(told.get("created_at", ""))),
        ("Owner", told.get("created_by", "")),
    ]
    if "fingerprint" in told:
        pairs.append(("Fingerprint", told["fingerprint"]))
    rows(pairs)


async def remove_keys(work: Work) -> None:
    """
    Delete keys, each when its name was typed again.

    :raises CommandError: It was not.
    """
    names = work.options.names
    if not work.options.force and not sys.stdin.isatty():
        raise CommandError("nobody can be asked whether the keys are to be deleted: give --force")
    if work.options.objects:
        await tell_needs(work.reactor, work.options.objects, work.options.objects_ca, names)
    for name in names:
        if not work.options.force:
            _confirm(name)
        confirmed = {CONFIRMATION: name}
        what = f'failed to remove key "{name}"'
        await _do(what, work.client.call, "DELETE", path("key/delete", name), None, confirmed)


def _confirm(name: str) -> None:
    print(
        f"Nothing that {name} has sealed can be opened again once it is deleted. A key server does"
        f" not know what that is; an object server does: kypello kms usage {name}",
        file=sys.stderr,
    )
    if asked(input, f"Type {name} to delete it: ") != name:
        raise CommandError(f"{name} was not deleted")


async def encrypt(work: Work) -> None:
    """
    Seal a message.
    """
    message = work.options.message
    content = sys.stdin.buffer.read() if message is None else message.encode()
    body = {"plaintext": b64encode(content).decode("ascii")}
    await _secret(work, "encrypt", "failed to encrypt message", body, ("ciphertext",))


async def decrypt(work: Work) -> None:
    """
    Open a message.
    """
    body = {"ciphertext": work.options.ciphertext, "context": work.options.context or ""}
    await _secret(work, "decrypt", "failed to decrypt ciphertext", body, ("plaintext",))


async def generate(work: Work) -> None:
    """
    Make a data key.
    """
    body = {"context": work.options.context or ""}
    members = ("plaintext", "ciphertext")
    await _secret(work, "generate", "failed to generate data key", body, members)


async def _secret(
    work: Work, call: str, what: str, body: Mapping[str, str], members: Sequence[str]
) -> None:
    where = path(f"key/{call}", work.options.name)
    told = await _do(what, work.client.ask, "POST", where, dict(body))
    if work.for_scripts:
        # No line end, as the original prints it.
        found = {name: told.get(name, "") for name in members}
        sys.stdout.write(json.dumps(found, separators=(",", ":")))
        return
    for name in members:
        print(f"{name}: {told.get(name, '')}")


# Listings


async def list_names(work: Work) -> None:
    """
    List keys, identities or policies.
    """
    options = work.options
    kind = options.kind or "key"
    noun = {"key": "Key", "identity": "Identity", "policy": "Policy"}[kind]
    member = "identities" if kind == "identity" else "names"
    names: list[str] = []
    prefix = (options.pattern or "").removesuffix("*")
    # An original server would look for names with a star, and refuses what cannot be a name.
    pattern = ("" if prefix == "_" else prefix.rstrip("-")) or "*"
    while True:
        told = await _do(
            f"failed to list {kind} names", work.client.ask, "GET", path(f"{kind}/list", pattern)
        )
        found = told.get(member) or []
        names += (name for name in found if name.startswith(prefix))
        pattern = told.get("continue_at") or ""
        if not pattern:
            break
        if "*" not in pattern:
            raise CommandError(
                f"the server, an original KES, cuts its list after {len(names)} names: ask for"
                f" prefixes longer than {prefix!r}"
            )
    if options.json:
        put(names)
        return
    if names:
        print(noun)
    for name in names:
        print(printable(name))


# Identities and policies


async def describe_identity(work: Work) -> None:
    """
    Tell about an identity, or about our own.
    """
    name = work.options.identity
    where = path("identity/describe", name) if name else "/v1/identity/self/describe"
    told = await _do("failed to describe identity", work.client.ask, "GET", where)
    identity = told.get("identity") or name
    if work.options.json:
        put({"identity": identity, **told})
        return
    pairs = [
        ("Identity", identity),
        ("Created At", when(told.get("created_at", ""))),
        ("Role", "Admin" if told.get("admin") else "User"),
    ]
    # An original server gives the whole policy where its clients expect the name.
    policy = told.get("policy")
    if policy and not told.get("admin"):
        pairs.append(("Policy", policy.get("name", "") if isinstance(policy, dict) else policy))
    rows(pairs)
    for title, member in (("Allow", "allow"), ("Deny", "deny")):
        for rule in told.get(member) or ():
            print(printable(f"{title:<12}{rule}"))


async def describe_policy(work: Work) -> None:
    """
    Tell since when a policy is in force.
    """
    name = work.options.name
    where = path("policy/describe", name)
    told = await _do("failed to describe policy", work.client.ask, "GET", where)
    if work.options.json:
        put(told)
        return
    rows(
        [
            ("Name", name),
            ("Date", when(told.get("created_at", ""))),
            ("Created by", told.get("created_by", "")),
        ]
    )


async def show_policy(work: Work) -> None:
    """
    Tell the rules of a policy.
    """
    name = work.options.name
    told = await _do("failed to show policy", work.client.ask, "GET", path("policy/read", name))
    if work.for_scripts:
        put({member: value for member, value in told.items() if member != "name"})
        return
    for title, member in (("Allow", "allow"), ("Deny", "deny")):
        if told.get(member):
            print(f"{title}:")
        for rule in told.get(member) or ():
            print(printable(f"  {rule}"))


async def _do(what: str, call: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
    try:
        return await call(*arguments)
    except KypelloError as error:
        raise refused(error, what) from error
