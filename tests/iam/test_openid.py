# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests for ``kypello.iam.openid``, ``openidkeys`` and ``idtoken``: tokens of OpenID providers.
"""

import hmac
import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any

from attrs import evolve
from jwt.api_jws import PyJWS
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from kypello.iam.idtoken import read_keys
from kypello.iam.logins import (
    IWebIdentities,
    Login,
    LoginExpired,
    LoginRefused,
    ProviderUnreachable,
)
from kypello.iam.openid import MOST_TEXT, OpenID, parent_of
from kypello.iam.openidkeys import PAUSE, REFRESH, STALE
from kypello.identityconfig import OpenIDSettings
from tests.cases import AsyncCase, SyncCase
from tests.iam.issuer import (
    CLIENT,
    EC_KEY,
    ED_KEY,
    ISSUER,
    OTHER_KEY,
    RSA_KEY,
    WEAK_KEY,
    Issuer,
    public_jwk,
    public_pem,
    unsigned,
)

NOW = 1_800_000_000.0
SETTINGS = OpenIDSettings("", f"{ISSUER}/.well-known/openid-configuration", CLIENT)


class OpenIDCase(AsyncCase):
    """
    A test with one provider.
    """

    def setUp(self) -> None:
        """
        Trust a provider.
        """
        self.clock = Clock()
        self.clock.advance(NOW)
        self.issuer = Issuer()
        self.trust(SETTINGS)

    def trust(self, *settings: OpenIDSettings) -> None:
        """
        Trust others instead, which give out the documents of the same one.
        """
        self.openid = OpenID.make(self.clock, self.issuer.get, settings)

    def token(self, **claims: Any) -> str:
        """
        A token of now.
        """
        return self.issuer.token(self.clock.seconds(), **claims)

    async def login(self, token: str | None = None, role: str = "", access: str = "") -> Login:
        """
        Log in, by default with a usual token.
        """
        return await self.openid.login(token or self.token(), role, access)

    async def refused(self, token: str, kind: type[LoginRefused] = LoginRefused) -> str:
        """
        See that a token is refused; give the reason.
        """
        with self.assertRaises(LoginRefused) as caught:
            await self.login(token)
        self.assertIs(type(caught.exception), kind)
        return caught.exception.reason


class LoginTests(OpenIDCase):
    """
    Who somebody is.
    """

    async def test_login(self) -> None:
        """
        A token tells who somebody is, what they are given, and until when.
        """
        verifyObject(IWebIdentities, self.openid)
        login = await self.login(
            self.token(email="alice@example.org", groups=["a", "b"], exp=NOW + 9)
        )
        self.assertEqual(login.parent, parent_of("alice", ISSUER))
        self.assertEqual(login.subject, "alice")
        self.assertEqual(login.policies, ("readwrite",))
        self.assertEqual(login.expires, NOW + 9)
        self.assertEqual(login.claims["jwt:sub"], ("alice",))
        self.assertEqual(login.claims["jwt:email"], ("alice@example.org",))
        self.assertEqual(login.claims["jwt:groups"], ("a", "b"))
        self.assertNotIn("jwt:exp", login.claims)

    def test_parent(self) -> None:
        """
        A subject stands for the same everywhere: the digest of its name and its issuer's.
        """
        self.assertEqual(
            parent_of("s", "i"), urlsafe_b64encode(sha256(b"openid:s:i").digest())[:43].decode()
        )

    async def test_policies(self) -> None:
        """
        Policies stand in a list or behind commas, each once; without any there is no login.
        """
        for claim, policies in (
            ("a, b,a", ("a", "b")),
            (["a", "b,c"], ("a", "b", "c")),
        ):
            self.assertEqual((await self.login(self.token(policy=claim))).policies, policies)
        for missing in (None, "", [], ["", 5], {"a": "b"}, 7):
            reason = await self.refused(self.token(policy=missing))
            self.assertIn("policy claim missing", reason)

    async def test_claim_name(self) -> None:
        """
        The claim with the policies can have another name.
        """
        self.trust(evolve(SETTINGS, claim="https://example.org/policies"))
        token = self.token(**{"https://example.org/policies": ["a"]})
        self.assertEqual((await self.login(token)).policies, ("a",))

    async def test_algorithms(self) -> None:
        """
        Keys sign with the algorithms of their kind.
        """
        self.issuer.keys = [
            public_jwk(RSA_KEY, kid="r"),
            public_jwk(EC_KEY, kid="e"),
            public_jwk(ED_KEY, kid="d"),
        ]
        for key, kid, algorithms in (
            (RSA_KEY, "r", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
            (EC_KEY, "e", ("ES256",)),
            (ED_KEY, "d", ("EdDSA",)),
        ):
            for algorithm in algorithms:
                token = self.token(key=key, kid=kid, algorithm=algorithm)
                self.assertEqual((await self.login(token)).subject, "alice")

    async def test_authorized_party(self) -> None:
        """
        A token is for us when we are in its audience, or the party that asked for it.
        """
        for claims in ({"aud": ["a", CLIENT]}, {"aud": "account", "azp": CLIENT}):
            self.assertEqual((await self.login(self.token(**claims))).subject, "alice")

    async def test_no_kid(self) -> None:
        """
        A token without the name of a key may be of any that fits.
        """
        self.issuer.keys.insert(0, public_jwk(EC_KEY, kid="e"))
        self.assertEqual((await self.login(self.token(kid=None))).subject, "alice")

    async def test_same_kid(self) -> None:
        """
        Of several keys of one name the one that fits counts.
        """
        self.issuer.keys.insert(0, public_jwk(EC_KEY, kid="one"))
        self.assertEqual((await self.login()).subject, "alice")

    async def test_nonce(self) -> None:
        """
        A nonce is between a provider and its client: a token counts until it ends, however
        often, and no longer.
        """
        token = self.token(nonce="n-0S6_WzA2Mj", exp=NOW + 20)
        for _ in range(2):
            self.assertEqual((await self.login(token)).expires, NOW + 20)
        self.clock.advance(20)
        await self.refused(token, LoginExpired)


class RefusedTests(OpenIDCase):
    """
    Tokens that do not count.
    """

    async def test_no_algorithm(self) -> None:
        """
        A token that nobody has signed is refused.
        """
        for name in ("none", "None", "NONE", ""):
            for kid in ({}, {"kid": "one"}):
                await self.refused(unsigned({"alg": name, **kid}, self.issuer.claims(NOW)))

    async def test_shared_secrets(self) -> None:
        """
        What everybody knows is no secret: neither the public key, in whatever form, nor the
        client id, nor a secret of the client, signs anything.
        """
        self.issuer.keys.append(
            {"kty": "oct", "kid": CLIENT, "k": "Y2xpZW50LXNlY3JldA", "alg": "HS256"}
        )
        jwk = json.dumps(public_jwk(RSA_KEY)).encode()
        for secret in (public_pem(RSA_KEY), jwk, CLIENT.encode(), b"client-secret", b""):
            for kid in ("one", CLIENT, None):
                for algorithm, digest in (("HS256", "sha256"), ("HS512", "sha512")):
                    header = {"alg": algorithm, "typ": "JWT", **({"kid": kid} if kid else {})}
                    signing = unsigned(header, self.issuer.claims(NOW)).rpartition(".")[0]
                    made = hmac.digest(secret, signing.encode(), digest)
                    encoded = urlsafe_b64encode(made).rstrip(b"=").decode()
                    await self.refused(f"{signing}.{encoded}")

    async def test_other_key(self) -> None:
        """
        A key that the provider does not have signs nothing, whatever name it takes, and wherever
        the token says that it is.
        """
        public = public_jwk(OTHER_KEY, kid="one")
        for header in ({}, {"jwk": public}, {"jku": "https://evil.example/jwks"}, {"x5u": "u"}):
            for kid in ("one", None, "other"):
                await self.refused(self.token(key=OTHER_KEY, kid=kid, header=header))
        self.assertEqual(set(self.issuer.asked), {"/.well-known/openid-configuration", "/jwks"})

    async def test_key_of_other_kind(self) -> None:
        """
        The name of a key of another kind, or one that signs otherwise, gains nothing.
        """
        self.issuer.keys = [
            public_jwk(RSA_KEY, kid="rsa", alg="RS256"),
            public_jwk(EC_KEY, kid="ec"),
        ]
        await self.refused(self.token(key=RSA_KEY, kid="ec"))
        await self.refused(self.token(key=EC_KEY, kid="rsa", algorithm="ES256"))
        await self.refused(self.token(key=RSA_KEY, kid="rsa", algorithm="PS256"))
        await self.refused(self.token(key=RSA_KEY, kid="rsa", algorithm="RS512"))

    async def test_undiscovered_algorithm(self) -> None:
        """
        A provider signs with what it says it does, if it says so.
        """
        self.issuer.discovery["id_token_signing_alg_values_supported"] = ["RS256", "HS256"]
        self.assertEqual((await self.login()).subject, "alice")
        await self.refused(self.token(algorithm="PS256"))

    async def test_changed(self) -> None:
        """
        A token that was changed, or cut, or joined from two, is refused.
        """
        good, other = self.token(), self.token(sub="root")
        header, claims, signature = good.split(".")
        for token in (
            f"{header}.{other.split('.')[1]}.{signature}",
            f"{header}.{claims}.",
            f"{header}.{claims}",
            f"{header}.{claims}.{signature[:-4]}",
            f"{good}.{signature}",
            f"{header}.{claims}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        ):
            await self.refused(token)

    async def test_no_token(self) -> None:
        """
        What is no token is refused, without any harm.
        """
        nested = urlsafe_b64encode(b'{"a":' * 800 + b"1" + b"}" * 800).decode()
        for token in ("x", "a.b.c", ".", "..", "\u00e9.b.c", "W10.e30.x", nested + ".a.b", "{}"):
            await self.refused(token)
        for header in ({"alg": 5}, {"alg": "RS256", "kid": 5}, {"alg": "RS256", "crit": ["exp"]}):
            await self.refused(unsigned(header, {}))

    async def test_claims(self) -> None:
        """
        A token must be of the provider, for us, of somebody, and valid now.
        """
        for claims in (
            {"iss": f"{ISSUER}/"},
            {"iss": None},
            {"aud": "another-client"},
            {"aud": None},
            {"aud": ["a"], "azp": "b"},
            {"aud": {CLIENT: 1}},
            {"sub": None},
            {"sub": ""},
            {"sub": ["alice"]},
            {"exp": None},
            {"exp": "soon"},
            {"exp": True},
            {"exp": 2**60},
            {"exp": float("nan")},
            {"exp": 10**400},
            {"nbf": int(NOW) + 600},
            {"iat": int(NOW) + 600},
        ):
            await self.refused(self.signed(claims))

    def signed(self, claims: dict[str, Any]) -> str:
        """
        A token with claims that no library would write.
        """
        payload = json.dumps(self.issuer.claims(NOW, **claims)).encode()
        return PyJWS().encode(payload, RSA_KEY, "RS256", headers={"kid": "one"})

    async def test_expired(self) -> None:
        """
        A token that has ended is told apart.
        """
        for end in (NOW, NOW - 1, 0):
            reason = await self.refused(self.token(exp=int(end)), LoginExpired)
            self.assertEqual(reason, "Token is expired")

    async def test_unknown_kid(self) -> None:
        """
        The name of an unknown key is told, within bounds.
        """
        reason = await self.refused(self.token(kid="other"))
        self.assertEqual(reason, "No public key found for kid other")
        self.clock.advance(PAUSE)
        self.assertLess(len(await self.refused(self.token(kid="k" * 4000))), 200)


class KeyTests(SyncCase):
    """
    Which keys of a key set count.
    """

    def test_passed_over(self) -> None:
        """
        Keys that are for something else, weak, private, secret or broken are passed over.
        """
        good = public_jwk(RSA_KEY, kid="good")
        members: list[Any] = [
            public_jwk(WEAK_KEY),
            public_jwk(RSA_KEY, use="enc"),
            public_jwk(RSA_KEY, key_ops=["encrypt"]),
            public_jwk(RSA_KEY, key_ops="verify"),
            public_jwk(RSA_KEY, alg="HS256"),
            public_jwk(RSA_KEY, alg="none"),
            public_jwk(RSA_KEY, kid=7),
            public_jwk(RSA_KEY, d="AQAB"),
            {**good, "n": "!"},
            {**good, "n": 5},
            {"kty": "RSA"},
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
            {"kty": "EC", "crv": "secp256k1", "x": "A" * 43, "y": "A" * 43},
            {"kty": ["RSA"]},
            "text",
            None,
        ]
        found = read_keys(json.dumps({"keys": [*members, good]}).encode())
        self.assertEqual([key.kid for key in found], ["good"])

    def test_no_key_set(self) -> None:
        """
        What is no key set is told.
        """
        for document in (b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000):
            with self.assertRaises(ValueError):
                read_keys(document)


class FetchTests(OpenIDCase):
    """
    When a provider is asked.
    """

    async def test_remembered(self) -> None:
        """
        A provider is asked when somebody logs in, and then not for a while.
        """
        self.assertEqual(self.issuer.asked, [])
        for _ in range(3):
            await self.login()
        self.assertEqual(len(self.issuer.asked), 2)
        self.clock.advance(REFRESH)
        await self.login()
        self.assertEqual(len(self.issuer.asked), 4)

    async def test_new_key(self) -> None:
        """
        A key that has just been added is found.
        """
        await self.login()
        self.clock.advance(PAUSE)
        self.issuer.keys.append(public_jwk(EC_KEY, kid="two"))
        token = self.token(key=EC_KEY, kid="two", algorithm="ES256")
        self.assertEqual((await self.login(token)).subject, "alice")

    async def test_removed_key(self) -> None:
        """
        A key that was removed counts no longer than it is remembered.
        """
        await self.login()
        self.issuer.keys[:] = [public_jwk(EC_KEY, kid="two")]
        self.clock.advance(REFRESH)
        await self.refused(self.token())

    async def test_bounded(self) -> None:
        """
        Unknown keys do not make us ask more often than once in a while.
        """
        for number in range(50):
            await self.refused(self.token(kid=f"k{number}"))
        self.assertEqual(len(self.issuer.asked), 2)
        self.clock.advance(PAUSE)
        for number in range(50):
            await self.refused(self.token(kid=f"k{number}"))
        self.assertEqual(len(self.issuer.asked), 4)

    async def test_shared(self) -> None:
        """
        Those who log in at the same time wait for one answer.
        """
        gates: list[Deferred[None]] = []

        async def slowly(url: str, bearer: str) -> bytes:
            """
            Answer when the test says so.
            """
            gates.append(Deferred())
            await gates[-1]
            return await self.issuer.get(url, bearer)

        self.openid = OpenID.make(self.clock, slowly, [SETTINGS])
        logins = [Deferred.fromCoroutine(self.login()) for _ in range(5)]
        # One goes away; the others must not notice.
        logins[0].cancel()
        await self.assertFailure(logins[0], CancelledError)
        for gate in gates:
            if not gate.called:
                gate.callback(None)
        for login in logins[1:]:
            self.assertEqual((await login).subject, "alice")
        self.assertEqual(len(self.issuer.asked), 2)

    async def test_down(self) -> None:
        """
        While a provider is down, what is known of it counts for a day.
        """
        await self.login()
        self.issuer.down = True
        self.clock.advance(REFRESH)
        self.assertEqual((await self.login()).subject, "alice")
        self.clock.advance(STALE)
        for _ in range(2):
            with self.assertRaises(ProviderUnreachable):
                await self.login()
        self.issuer.down = False
        self.clock.advance(PAUSE)
        self.assertEqual((await self.login()).subject, "alice")

    async def test_never_up(self) -> None:
        """
        A provider that has never answered is not asked by each login.
        """
        self.issuer.down = True
        for _ in range(9):
            with self.assertRaises(ProviderUnreachable):
                await self.login()
        self.assertEqual(len(self.issuer.asked), 1)

    async def test_strange_documents(self) -> None:
        """
        A provider whose documents are not as they should be does not count.
        """
        for discovery in (
            {"issuer": None},
            {"issuer": ""},
            {"jwks_uri": None},
            {"jwks_uri": "http://id.example/jwks"},
            {"jwks_uri": "file:///etc/passwd"},
            {"jwks_uri": f"{ISSUER}/nothing"},
            {"jwks_uri": f"{ISSUER}/.well-known/openid-configuration"},
        ):
            self.issuer.discovery = discovery
            self.trust(SETTINGS)
            with self.assertRaises(ProviderUnreachable):
                await self.login()


class RoleTests(OpenIDCase):
    """
    Several providers, with roles.
    """

    def setUp(self) -> None:
        """
        Trust two that give roles.
        """
        super().setUp()
        self.first = evolve(SETTINGS, name="A", role_policies=("a", "b"))
        self.second = evolve(SETTINGS, name="B", client_id="second", role_policies=("c",))
        self.trust(self.first, self.second)

    async def test_role(self) -> None:
        """
        The role decides who is asked, and what is given; the claim does not count.
        """
        login = await self.login(self.token(policy="consoleAdmin"), self.first.role)
        self.assertEqual(login.policies, ("a", "b"))
        login = await self.login(self.token(aud="second"), self.second.role)
        self.assertEqual(login.policies, ("c",))
        in_region = self.second.role.replace("iam:::", "iam:eu-west-1::")
        self.assertEqual((await self.login(self.token(aud="second"), in_region)).policies, ("c",))

    async def test_name(self) -> None:
        """
        The role of a provider is named by a digest of the client id.
        """
        self.assertRegex(self.first.role, r"\Aarn:minio:iam:::role/[0-9A-Za-z_-]{27}\Z")
        self.assertNotEqual(self.first.role, self.second.role)

    async def test_other_audience(self) -> None:
        """
        A token for one client takes no role of another.
        """
        with self.assertRaises(LoginRefused):
            await self.login(self.token(), self.second.role)

    async def test_unknown_role(self) -> None:
        """
        Without a provider that goes by claims, a role must be known.
        """
        for role in ("", "arn:minio:iam:::role/dummy-internal", "x", self.first.role + "x"):
            with self.assertRaises(LoginRefused) as caught:
                await self.login(self.token(), role)
            self.assertEqual(caught.exception.reason, f"Role {role} does not exist")

    async def test_beside_claims(self) -> None:
        """
        With one that goes by claims, an unknown role is passed over.
        """
        self.trust(SETTINGS, self.second)
        login = await self.login(self.token(), "arn:aws:iam::123456789012:role/whatever")
        self.assertEqual(login.policies, ("readwrite",))
        self.assertEqual(
            (await self.login(self.token(aud="second"), self.second.role)).policies, ("c",)
        )


class UserinfoTests(OpenIDCase):
    """
    Claims that are asked for.
    """

    def setUp(self) -> None:
        """
        Trust a provider that tells policies when it is asked.
        """
        super().setUp()
        self.trust(evolve(SETTINGS, userinfo=True))
        self.issuer.people = {
            "alice-access": {"sub": "alice", "policy": "diagnostics", "email": "a@example.org"},
            "bob-access": {"sub": "bob", "policy": "consoleAdmin"},
        }

    async def test_told(self) -> None:
        """
        What is told counts beside what the token says.
        """
        login = await self.login(self.token(policy=None), access="alice-access")
        self.assertEqual(login.policies, ("diagnostics",))
        self.assertEqual(login.claims["jwt:email"], ("a@example.org",))

    async def test_signed_first(self) -> None:
        """
        What is signed counts more.
        """
        login = await self.login(self.token(policy="readonly"), access="alice-access")
        self.assertEqual(login.policies, ("readonly",))

    async def test_too_much(self) -> None:
        """
        A session keeps a bounded amount of it.
        """
        self.issuer.people["alice-access"]["groups"] = ["staff"] * MOST_TEXT
        with self.assertRaises(LoginRefused):
            await self.login(access="alice-access")

    async def test_somebody_else(self) -> None:
        """
        The access token of somebody else gives nothing.
        """
        with self.assertRaises(LoginRefused):
            await self.login(self.token(policy=None), access="bob-access")
