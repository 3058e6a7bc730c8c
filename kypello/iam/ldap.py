# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Those who have a password in a directory, over LDAP.

One connection serves one login: as somebody who may look others up, it finds the user; as the
user, it shows the password; as the first one again, it finds the groups.
"""

from collections.abc import Sequence
from typing import Any

from attrs import define
from ldaptor.protocols import pureldap
from ldaptor.protocols.ldap.ldapclient import LDAPClient, LDAPClientConnectionLostException
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from kypello.errors import ConfigurationError
from kypello.iam.authorities import Authorities
from kypello.iam.ldapfilter import read_filter
from kypello.iam.ldapnames import normal_name
from kypello.iam.logins import (
    NO_LOGIN,
    IDirectory,
    Login,
    LoginRefused,
    ProviderUnreachable,
)
from kypello.identityconfig import LDAPSettings
from kypello.kms.verification import CertificateRefused

#: How long a login may take, in seconds.
DEADLINE = 10.0

#: How many groups of a user count.
MOST_GROUPS = 1000

#: Results (RFC 4511, appendix A) that say something of the server and not of the user:
#: operationsError, protocolError, busy, unavailable, other.
_TROUBLE = frozenset({1, 2, 51, 52, 80})
_SUCCESS, _TOO_MANY = 0, 4
_NO_ATTRIBUTES = b"1.1"

_FAILURES = (
    CertificateRefused,
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    DNSLookupError,
    LDAPClientConnectionLostException,
    SSL.Error,
    TimeoutError,
)


@implementer(IDirectory)
@define(eq=False)
class Directory:
    """
    A directory, which is asked at each login.

    :ivar _settings: Such as :func:`check_settings` lets pass.
    """

    _reactor: Any
    _settings: LDAPSettings
    _authorities: Authorities

    async def login(self, user: str, password: str) -> Login:
        """
        Find somebody in the directory, and see that the password is theirs.
        """
        if not user or not password:
            # A directory takes a name without a password for nobody, and lets nobody in.
            raise LoginRefused(NO_LOGIN, "the name or the password is empty")
        working = Deferred.fromCoroutine(self._login(user, password))
        working.addTimeout(DEADLINE, self._reactor)
        try:
            return await working
        except _FAILURES as error:
            settings = self._settings
            raise ProviderUnreachable(
                f"{settings.host}:{settings.port}: {type(error).__name__}: {error}"
            ) from error

    async def _login(self, user: str, password: str) -> Login:
        settings = self._settings
        connection = _Connection(await self._connect())
        try:
            await self._look_up(connection)
            name = await self._find(connection, user)
            result = await connection.bind(name, password)
            if result in _TROUBLE:
                raise ProviderUnreachable(f"the directory answers a login with {result}")
            if result != _SUCCESS:
                raise LoginRefused(NO_LOGIN, f"the directory refuses {name!r} with {result}")
            groups: tuple[str, ...] = ()
            if settings.group_filter:
                await self._look_up(connection)
                groups = await self._groups(connection, user, name)
        finally:
            connection.close()
        parent = _normal(name)
        claims = {"ldap:user": (parent,), "ldap:username": (user,), "ldap:groups": groups}
        return Login(parent, parent, "ldap", groups=groups, claims=claims)

    async def _connect(self) -> Any:
        settings = self._settings
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, settings.host, settings.port, timeout=DEADLINE
        )
        creator = self._authorities.to_server(settings.host, verify=settings.verify)
        if settings.security == "tls":
            endpoint = wrapClientTLS(creator, endpoint)
        try:
            client = await connectProtocol(endpoint, LDAPClient())
        except ConnectingCancelledError as error:
            raise CancelledError() from error
        if settings.security == "starttls":
            answer = await client.send(pureldap.LDAPStartTLSRequest())
            if answer.resultCode != _SUCCESS:
                client.transport.loseConnection()
                raise ProviderUnreachable(
                    f"the directory refuses STARTTLS with {answer.resultCode}"
                )
            client.transport.startTLS(creator)
        return client

    async def _look_up(self, connection: "_Connection") -> None:
        """
        Become the one who may look others up.
        """
        settings = self._settings
        result = await connection.bind(settings.lookup_dn, settings.lookup_password)
        if result != _SUCCESS:
            raise ProviderUnreachable(
                f"the directory refuses {settings.lookup_dn!r}, who looks others up, with {result}"
            )

    async def _find(self, connection: "_Connection", user: str) -> str:
        settings = self._settings
        wanted = read_filter(settings.user_filter, {"s": user})
        found = [
            name
            for base in settings.user_bases
            for name in await connection.search(base, wanted, 2)
        ]
        if len(set(found)) != 1:
            raise LoginRefused(NO_LOGIN, f"the directory knows {len(found)} users {user[:128]!r}")
        return found[0]

    async def _groups(self, connection: "_Connection", user: str, name: str) -> tuple[str, ...]:
        settings = self._settings
        wanted = read_filter(settings.group_filter, {"s": user, "d": name})
        found = [
            _normal(group)
            for base in settings.group_bases
            for group in await connection.search(base, wanted, MOST_GROUPS)
        ]
        return tuple(sorted(set(found)))


def check_settings(settings: LDAPSettings) -> None:
    """
    See that names and filters are such.

    :raises ConfigurationError: With every mistake.
    """
    mistakes = []
    for template, names in ((settings.user_filter, "s"), (settings.group_filter, "sd")):
        try:
            if template:
                read_filter(template, dict.fromkeys(names, ""))
        except ValueError as error:
            mistakes.append(f"{template!r} is no filter of a directory: {error}.")
    for name in (*settings.user_bases, *settings.group_bases):
        try:
            normal_name(name)
        except ValueError as error:
            mistakes.append(f"{error}.")
    if mistakes:
        raise ConfigurationError(tuple(mistakes))


def _normal(name: str) -> str:
    try:
        return normal_name(name)
    except ValueError as error:
        raise ProviderUnreachable(f"the directory tells what is none: {error}") from error


@define(eq=False)
class _Connection:
    """
    A connection to a directory.
    """

    _client: Any

    async def bind(self, name: str, password: str) -> int:
        """
        Become somebody on this connection.

        :return: The result; 0 for success.
        """
        request = pureldap.LDAPBindRequest(dn=name.encode(), auth=password.encode())
        answer = await self._client.send(request)
        result: int = answer.resultCode
        return result

    async def search(self, base: str, wanted: Any, most: int) -> Sequence[str]:
        """
        The names of the entries below another.

        :param most: How many of them count; there may be more.
        :raises ProviderUnreachable: The directory cannot tell.
        """
        found: list[str] = []
        done: Deferred[int] = Deferred()

        def take(answer: Any) -> bool:
            """
            Take one answer; tell whether it is the last one.
            """
            if isinstance(answer, pureldap.LDAPSearchResultEntry) and len(found) < most:
                found.append(answer.objectName.decode("utf-8", "replace"))
            last = isinstance(answer, pureldap.LDAPSearchResultDone)
            if last:
                done.callback(answer.resultCode)
            return last

        request = pureldap.LDAPSearchRequest(
            baseObject=base.encode(),
            scope=pureldap.LDAP_SCOPE_wholeSubtree,
            derefAliases=pureldap.LDAP_DEREF_neverDerefAliases,
            sizeLimit=most,
            timeLimit=int(DEADLINE),
            filter=wanted,
            attributes=[_NO_ATTRIBUTES],
        )
        lost = self._client.send_multiResponse(request, take)
        # It fires only when the connection is lost.
        lost.addErrback(done.errback)
        result = await done
        if result not in (_SUCCESS, _TOO_MANY):
            raise ProviderUnreachable(
                f"the directory answers a search below {base!r} with {result}"
            )
        return found

    def close(self) -> None:
        """
        End it.
        """
        # A server that does not answer any more would not end it either.
        self._client.transport.abortConnection()
