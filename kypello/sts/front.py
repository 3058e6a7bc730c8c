# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What all calls of the security token service share, and what one call is.
"""

from collections.abc import Callable, Sequence

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from kypello.accessconfig import Network
from kypello.auth.request import RequestHead
from kypello.iam.accounts import Accounts
from kypello.iam.authenticate import Authenticator
from kypello.iam.certificates import Certificates
from kypello.iam.logins import IDirectory, IWebIdentities
from kypello.iam.slowing import Slowing
from kypello.sts.wire import Fields


def tell_nothing(head: RequestHead) -> Sequence[tuple[str, str]]:
    """
    Leave the pages of others to guess.
    """
    return ()


@frozen(eq=False)
class STSFront:
    """
    What all calls share.

    :ivar duration: How long sessions last, in seconds, whatever is asked for; ``None`` leaves it
        to the calls.
    :ivar web_identities: ``None`` when no OpenID provider is configured.
    :ivar directory: ``None`` when no LDAP server is configured.
    :ivar certificates: ``None`` when clients are not told by certificates.
    :ivar proxies: Whose word about the addresses of clients is taken.
    :ivar tell_page: The headers that let a browser show the answer to the page that asks.
    """

    accounts: Accounts
    authenticator: Authenticator
    clock: IReactorTime
    slowing: Slowing
    duration: int | None = None
    web_identities: IWebIdentities | None = None
    directory: IDirectory | None = None
    certificates: Certificates | None = None
    proxies: Sequence[Network] = ()
    tell_page: Callable[[RequestHead], Sequence[tuple[str, str]]] = tell_nothing


@frozen(eq=False)
class Call:
    """
    One call.

    :ivar source: The address of the client.
    :ivar body_hash: SHA-256 of the body in lower-case hex.
    :ivar chain: The certificates that the client has shown, in DER, its own first.
    """

    head: RequestHead
    source: str
    fields: Fields
    body_hash: str
    chain: Sequence[bytes] = field(default=(), repr=False)
