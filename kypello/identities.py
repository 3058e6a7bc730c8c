# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The security token service put together, with those who say who somebody is.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kypello.accessconfig import Network
from kypello.auth.request import RequestHead
from kypello.errors import ConfigurationError
from kypello.http.tls import Clients
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.authorities import Authorities
from kypello.iam.certificates import Certificates
from kypello.iam.ldap import Directory, check_settings
from kypello.iam.openid import OpenID
from kypello.iam.slowing import Slowing
from kypello.iam.webclient import WebClient
from kypello.identityconfig import IdentitySettings
from kypello.sts.front import STSFront, tell_nothing
from kypello.sts.root import STSResource


def load_authorities(settings: IdentitySettings, folder: Path, needed: bool = False) -> Authorities:
    """
    Read the certificates of authorities, if anybody needs them; blocking.

    :param folder: Where they are.
    :param needed: Whether others than those of *settings* do.
    :raises ConfigurationError: With every mistake there, and in *settings*.
    """
    mistakes: list[str] = []
    authorities = Authorities()
    try:
        if settings.ldap is not None:
            check_settings(settings.ldap)
    except ConfigurationError as error:
        mistakes += error.mistakes
    try:
        if needed or settings.openid or settings.ldap is not None or settings.certificates:
            authorities = Authorities.load(folder)
        if settings.certificates and not authorities.certificates:
            mistakes.append(
                f"{folder} holds no certificate of an authority, so that clients cannot be told by"
                " theirs: put it there, or leave MINIO_IDENTITY_TLS_ENABLE out."
            )
    except ConfigurationError as error:
        mistakes += error.mistakes
    if mistakes:
        raise ConfigurationError(tuple(mistakes))
    return authorities


def asked_of_clients(settings: IdentitySettings) -> Clients:
    """
    What the server's end of TLS asks of clients.
    """
    return Clients.WELCOME_BY_KEY if settings.certificates else Clients.UNKNOWN


def make_token_service(
    reactor: Any,
    settings: IdentitySettings,
    authorities: Authorities,
    accounts: Accounts,
    authenticator: Authenticator,
    slowing: Slowing,
    proxies: Sequence[Network] = (),
    tell_page: Callable[[RequestHead], Sequence[tuple[str, str]]] = tell_nothing,
) -> STSResource:
    """
    Put the parts together; nobody is asked before somebody logs in.

    :param authorities: As :func:`load_authorities` read them.
    :param slowing: Holds up those who guess.
    :param proxies: Whose word about the addresses of clients is taken.
    :param tell_page: As :class:`STSFront` has it.
    """
    web_identities = directory = certificates = None
    if settings.openid:
        web = WebClient.make(reactor, authorities)
        web_identities = OpenID.make(reactor, web.get, settings.openid)
    if settings.ldap is not None:
        directory = Directory(reactor, settings.ldap, authorities)
    if settings.certificates:
        certificates = Certificates(authorities.store)
    return STSResource(
        STSFront(
            accounts,
            authenticator,
            reactor,
            slowing,
            settings.duration,
            web_identities,
            directory,
            certificates,
            proxies,
            tell_page,
        )
    )
