# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tokens that say who somebody is (RFC 7519), and the keys that providers sign them with (RFC 7517).

The key decides which algorithms it can have signed with; what a token says of itself only chooses
among these.  No key is a shared secret, so that no public text can be taken for one.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from kypello.iam.logins import LoginExpired, LoginRefused

#: How far the clock of a provider may be ahead of ours, in seconds.
AHEAD = 60.0

#: No time is as late as this, in seconds since the epoch.
_FAR = 2**40
_LEAST_RSA_BITS = 2048
_MOST_HEADER = 8192
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PRIVATE = "d"
_READERS: Mapping[str, Any] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}


@frozen
class VerificationKey:
    """
    A public key of a provider.

    :ivar kid: Its name; ``None`` when it has none.
    :ivar algorithms: Those that it may have signed with.
    :ivar key: An object of the package ``cryptography``.
    """

    kid: str | None
    algorithms: frozenset[str]
    key: Any


@frozen
class TokenHeader:
    """
    What a token says of its signature.

    :ivar kid: The name of the key; ``None`` when it does not say.
    """

    algorithm: str
    kid: str | None


def read_keys(document: bytes) -> tuple[VerificationKey, ...]:
    """
    The keys of a provider that tokens can be checked with; others are passed over.

    :param document: Its JSON Web Key Set.
    :raises ValueError: It is none.
    """
    members = read_object(document).get("keys")
    if not isinstance(members, list):
        raise ValueError("there is no list of keys")
    found = (_read_key(member) for member in members if isinstance(member, dict))
    return tuple(key for key in found if key is not None)


def _read_key(member: Mapping[str, Any]) -> VerificationKey | None:
    read = _READERS.get(str(member.get("kty")))
    operations = member.get("key_ops", ["verify"])
    # A provider that tells its private key tells it to everybody.
    meant = member.get("use", "sig") == "sig" and _PRIVATE not in member
    if read is None or not meant or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = read(dict(member))
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithms = _algorithms(key)
    stated = member.get("alg")
    if stated is not None:
        algorithms &= {str(stated)}
    kid = member.get("kid")
    if not algorithms or not isinstance(kid, str | None):
        return None
    return VerificationKey(kid, algorithms, key)


def _algorithms(key: Any) -> frozenset[str]:
    if isinstance(key, RSAPublicKey):
        return _RSA if key.key_size >= _LEAST_RSA_BITS else frozenset()
    if isinstance(key, EllipticCurvePublicKey):
        name = _EC.get(key.curve.name)
        return frozenset() if name is None else frozenset({name})
    # Of the others only these sign: X25519 agrees on secrets.
    return frozenset({"EdDSA"}) if type(key).__name__ == "Ed25519PublicKey" else frozenset()


def read_header(token: str) -> TokenHeader:
    """
    What a token says of its signature.

    :raises LoginRefused: It is no signed token.
    """
    first, dot, _rest = token.partition(".")
    try:
        if not dot or len(first) > _MOST_HEADER:
            raise ValueError
        header = read_object(urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except ValueError:
        raise LoginRefused("The token is not a JSON Web Token.") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if "crit" in header or not isinstance(algorithm, str) or not isinstance(kid, str | None):
        raise LoginRefused("The header of the token is not one that can be checked.")
    return TokenHeader(algorithm, kid)


def fitting(
    keys: Iterable[VerificationKey], header: TokenHeader, allowed: frozenset[str] | None
) -> list[VerificationKey]:
    """
    The keys that may have signed a token.

    :param allowed: The algorithms that the provider says it uses; ``None`` when it does not say.
    """
    if allowed is not None and header.algorithm not in allowed:
        return []
    return [
        key
        for key in keys
        if header.algorithm in key.algorithms and (header.kid is None or header.kid == key.kid)
    ]


def read_claims(
    token: str, header: TokenHeader, keys: Sequence[VerificationKey]
) -> Mapping[str, Any]:
    """
    What a token says, which one of the keys has signed.

    :raises LoginRefused: None has.
    """
    for one in keys:
        try:
            content = PyJWS().decode_complete(token, one.key, algorithms=[header.algorithm])
            return read_object(content["payload"])
        except (PyJWTError, ValueError):
            continue
    raise LoginRefused("The signature of the token is not that of its provider.")


def check_claims(claims: Mapping[str, Any], issuer: str, client_id: str, now: float) -> float:
    """
    See that a token is from the provider, for us, and valid now.

    :param now: In seconds since the epoch.
    :return: When it ends.
    :raises LoginExpired:
    :raises LoginRefused:
    """
    if claims.get("iss") != issuer:
        raise LoginRefused("The token is from another issuer (iss).")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences and claims.get("azp") != client_id:
        raise LoginRefused("The token is for somebody else: aud or azp must be our client id.")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise LoginRefused("The token has no subject (sub).")
    expires = _moment(claims, "exp")
    if expires is None:
        raise LoginRefused("The token has no end (exp).")
    if expires <= now:
        raise LoginExpired("Token is expired")
    for name in ("nbf", "iat"):
        moment = _moment(claims, name)
        if moment is not None and moment > now + AHEAD:
            raise LoginRefused(f"The token is not valid yet ({name}).")
    return expires


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < _FAR:
        raise LoginRefused(f"The token has a time that is none ({name}).")
    return float(value)


def read_object(document: bytes) -> dict[str, Any]:
    """
    Read a JSON object.

    :raises ValueError: It is none.
    """
    try:
        found = json.loads(document)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found
