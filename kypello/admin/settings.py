# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The configuration, by the administration API: to read.

It is set on the command line and in the environment, when the server starts; nothing here changes
it.
"""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from kypello.admin.call import AdminFront, Call
from kypello.admin.errors import Rejected
from kypello.admin.wire import json_response
from kypello.http.response import Response


@frozen
class _Setting:
    """
    One setting of a subsystem.

    :ivar about: What it is for, for people.
    """

    key: str
    about: str


@frozen
class _Subsystem:
    """
    Settings that belong together.
    """

    about: str
    settings: tuple[_Setting, ...]


_REGION = _Setting("region", "name of the region that signatures have to name, by KYPELLO_REGION")

_SUBSYSTEMS: Mapping[str, _Subsystem] = {
    "region": _Subsystem("the region of the server", (_Setting("name", _REGION.about),)),
    "site": _Subsystem(
        "the name and the region of the server", (_Setting("name", "of the site"), _REGION)
    ),
    # Clients look here for a subscription before they do something else.
    "subnet": _Subsystem(
        "a subscription, which this server has none of",
        (
            _Setting("license", "of the subscription"),
            _Setting("api_key", "of the subscription"),
            _Setting("proxy", "to reach it"),
        ),
    ),
}


async def get_config(call: Call) -> Response:
    """
    The settings of one subsystem.
    """
    name = call.named("key").partition(":")[0]
    return await call.seal_bytes(_line(call.front, name, _find(name)).encode())


async def export_config(call: Call) -> Response:
    """
    All settings.
    """
    lines = [_line(call.front, name, found) for name, found in _SUBSYSTEMS.items()]
    return await call.seal_bytes("".join(lines).encode())


async def help_config(call: Call) -> Response:
    """
    What there is to be set, and where.
    """
    name, key = call.parameter("subSys"), call.parameter("key")
    if not name:
        keys = [_tell_help(name, found.about) for name, found in _SUBSYSTEMS.items()]
        return _help("", "the settings of the server, made when it starts", keys)
    found = _find(name)
    keys = [
        _tell_help(setting.key, setting.about)
        for setting in found.settings
        if key in ("", setting.key)
    ]
    return _help(name, found.about, keys)


def _help(name: str, about: str, keys: list[dict[str, Any]]) -> Response:
    return json_response(
        {"subSys": name, "description": about, "multipleTargets": False, "keysHelp": keys}
    )


def _tell_help(key: str, about: str) -> dict[str, Any]:
    return {
        "key": key,
        "type": "string",
        "description": about,
        "optional": True,
        "multipleTargets": False,
    }


def _find(name: str) -> _Subsystem:
    found = _SUBSYSTEMS.get(name)
    if found is None:
        raise Rejected(400, "XMinioConfigError", f"unknown sub-system {name}")
    return found


def _line(front: AdminFront, name: str, subsystem: _Subsystem) -> str:
    values = {("region", "name"): front.region or "", ("site", "region"): front.region or ""}
    settings = " ".join(
        f"{setting.key}={values.get((name, setting.key), '')}" for setting in subsystem.settings
    )
    return f"{name} {settings} \n"
