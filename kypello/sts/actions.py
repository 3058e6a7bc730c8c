# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The actions of the security token service: each gives somebody the credentials of a session.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from twisted.internet.task import deferLater

from kypello.errors import NoSuchPolicy, Refused
from kypello.iam.logins import NO_LOGIN, Login, LoginRefused
from kypello.iam.values import BUILTIN, Session
from kypello.model import Kind, Question
from kypello.policy.document import Policy, parse_policy, parse_session_policy
from kypello.policy.evaluate import Asker, Grants, Policies, decide
from kypello.sts.front import Call, STSFront
from kypello.sts.wire import Granted

#: How long a session may last, in seconds, and does when nobody says how long.
SHORTEST, LONGEST, USUAL = 900, 365 * 24 * 3600, 3600

#: Failed logins to a directory are answered after this many seconds, so that the time does not
#: tell how far they got.
EVEN = 1.0

#: How long a type may be that sessions are revoked by.
_MOST_TYPE = 128

#: Only a statement that denies it keeps anybody from logging in, by ``sts:DurationSeconds``.
_WEB_ACTION = "sts:AssumeRoleWithWebIdentity"
_ALLOWED = (
    b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow",'
    b'"Action":["sts:AssumeRoleWithWebIdentity"],"Resource":["*"]}]}'
)


async def assume_role(front: STSFront, call: Call) -> Granted:
    """
    A session for a user, or for the root user, who has signed the call.
    """
    stated = call.head.header("x-amz-content-sha256")
    if stated is not None and stated != call.body_hash:
        raise Refused("AccessDenied", "The x-amz-content-sha256 must be that of the body.")
    try:
        identity = await front.authenticator.authenticate_call(call.head, call.body_hash, "sts")
    except Refused as error:
        raise Refused("AccessDenied", error.message) from error
    if identity.kind not in (Kind.ROOT, Kind.USER):
        raise Refused("AccessDenied", "Access Denied.")
    policy, duration = _session_policy(call), _duration(front, call)
    session = await front.accounts.create_session(
        identity.user or identity.access_key,
        policy=policy,
        policies=None,
        duration=duration,
        groups=(),
        claims={},
        provider=BUILTIN,
        revoke_type=_revoke_type(call),
    )
    return Granted(session)


async def assume_role_with_web_identity(front: STSFront, call: Call) -> Granted:
    """
    A session for somebody who has a token of an OpenID provider.
    """
    token = call.fields.required("WebIdentityToken")
    session, login = await _web_session(front, call, token)
    return Granted(session, extra={"SubjectFromWebIdentityToken": login.subject})


async def assume_role_with_client_grants(front: STSFront, call: Call) -> Granted:
    """
    The same by an older name.
    """
    session, login = await _web_session(front, call, call.fields.required("Token"))
    return Granted(session, extra={"SubjectFromToken": login.subject})


async def assume_role_with_ldap_identity(front: STSFront, call: Call) -> Granted:
    """
    A session for somebody who has a password in a directory.
    """
    directory = front.directory
    if directory is None:
        raise _disabled("AssumeRoleWithLDAPIdentity")
    user, password = call.fields.required("LDAPUsername"), call.fields.required("LDAPPassword")
    policy, duration = _session_policy(call), _duration(front, call)

    async def attempt() -> Login:
        """
        Log in, and see that something is granted.
        """
        began = front.clock.seconds()
        try:
            login = await directory.login(user, password)
            await _see_attached(front, login)
        except LoginRefused:
            await deferLater(front.clock, EVEN - (front.clock.seconds() - began) % EVEN)
            raise
        return login

    login = await front.slowing.attempt(call.source, user.casefold(), attempt)
    session = await _session(front, call, login, policy, duration)
    return Granted(session, role_user=False)


async def assume_role_with_certificate(front: STSFront, call: Call) -> Granted:
    """
    A session for somebody who has a certificate with the name of a policy.
    """
    if front.certificates is None:
        raise _disabled("AssumeRoleWithCertificate")
    if not call.head.secure:
        raise Refused("InsecureConnection", "A certificate can be shown over TLS only.")
    try:
        duration = _duration(front, call)
    except Refused as error:
        raise Refused("MissingParameter", error.message) from None
    policy = _session_policy(call)
    login = front.certificates.login(call.chain, front.clock.seconds())
    await _granted_policies(front, login)
    session = await _session(front, call, login, policy, duration)
    return Granted(session, role_user=False)


async def assume_role_with_custom_token(_front: STSFront, _call: Call) -> Granted:
    """
    Nobody: there are no plugins.
    """
    raise _disabled("AssumeRoleWithCustomToken")


#: All actions by their names.
ACTIONS: Mapping[str, Callable[[STSFront, Call], Awaitable[Granted]]] = {
    "AssumeRole": assume_role,
    "AssumeRoleWithCertificate": assume_role_with_certificate,
    "AssumeRoleWithClientGrants": assume_role_with_client_grants,
    "AssumeRoleWithCustomToken": assume_role_with_custom_token,
    "AssumeRoleWithLDAPIdentity": assume_role_with_ldap_identity,
    "AssumeRoleWithWebIdentity": assume_role_with_web_identity,
}


async def _web_session(front: STSFront, call: Call, token: str) -> tuple[Session, Login]:
    providers, fields = front.web_identities, call.fields
    if providers is None:
        role = fields.text("RoleArn") or "arn:minio:iam:::role/dummy-internal"
        raise Refused("InvalidParameterValue", f"Role {role} does not exist")
    asked = None
    if fields.text("DurationSeconds") or front.duration is not None:
        asked = _duration(front, call)
    policy = _session_policy(call)

    async def attempt() -> Login:
        """
        Find out whose token it is.
        """
        return await providers.login(
            token, fields.text("RoleArn"), fields.text("WebIdentityAccessToken")
        )

    login = await front.slowing.attempt(call.source, "", attempt)
    found = await _granted_policies(front, login)
    if asked is not None and not _may_last(found, login, asked):
        raise Refused("AccessDenied", "Access Denied.")
    session = await _session(front, call, login, policy, LONGEST if asked is None else asked)
    return session, login


async def _see_attached(front: STSFront, login: Login) -> None:
    """
    See that somebody of a directory has policies, or that one of their groups has.

    :raises LoginRefused: Not; whoever guesses passwords is not told.
    """
    if not await front.accounts.attached((login.parent, *login.groups)):
        raise LoginRefused(NO_LOGIN, f"no policy is attached to {login.parent}, nor to its groups")


async def _granted_policies(front: STSFront, login: Login) -> list[Policy]:
    """
    The policies that an identity provider has named.

    :raises LoginRefused: There is none of them.
    """
    found = []
    for name in login.policies or ():
        with suppress(NoSuchPolicy):
            found.append((await front.accounts.policy(name)).policy)
    if not found:
        names = ",".join(login.policies or ())
        raise LoginRefused(
            f"None of the given policies (`{names}`) are defined, credentials will not be generated"
        )
    return found


def _may_last(policies: Sequence[Policy], login: Login, duration: int) -> bool:
    """
    Whether no policy denies somebody a session so long.
    """

    def values(name: str) -> tuple[str, ...] | None:
        return (str(duration),) if name == "sts:durationseconds" else None

    asker = Asker(Kind.SESSION, login.parent, login.groups, login.claims)
    allowed = Policies((*policies, parse_policy(_ALLOWED)))
    return decide(Question(_WEB_ACTION, "", values), asker, Grants(False, allowed))


async def _session(
    front: STSFront, call: Call, login: Login, policy: Policy | None, duration: float
) -> Session:
    """
    Make a session that ends no later than what somebody has shown.
    """
    if login.expires is not None:
        duration = min(duration, login.expires - front.clock.seconds())
    if duration <= 0:
        raise Refused("ExpiredToken", "Token is expired")
    return await front.accounts.create_session(
        login.parent,
        policy=policy,
        policies=login.policies,
        duration=duration,
        groups=login.groups,
        claims=login.claims,
        provider=login.provider,
        revoke_type=_revoke_type(call),
    )


def _session_policy(call: Call) -> Policy | None:
    text = call.fields.text("Policy")
    return parse_session_policy(text.encode()) if text else None


def _revoke_type(call: Call) -> str:
    found = call.fields.text("TokenRevokeType")
    if len(found) > _MOST_TYPE:
        raise Refused("InvalidParameterValue", "The TokenRevokeType is too long.")
    return found


def _duration(front: STSFront, call: Call) -> int:
    if front.duration is not None:
        return front.duration
    text = call.fields.text("DurationSeconds")
    if not text:
        return USUAL
    duration = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not SHORTEST <= duration <= LONGEST:
        raise Refused("InvalidParameterValue", "invalid token expiry")
    return duration


def _disabled(action: str) -> Refused:
    return Refused("STSNotInitialized", f"STS API '{action}' is disabled")
