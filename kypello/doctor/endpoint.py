# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One key server: whether it can be reached, what it lets us do, and which keys it holds.
"""

from collections.abc import Awaitable, Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from attrs import define, field

from kypello.crypto.keys import context_bytes
from kypello.doctor.certificate import check_server, shown_by
from kypello.doctor.findings import Chart
from kypello.errors import (
    KeyExists,
    KeyMismatch,
    KeyNotFound,
    KMSForbidden,
    KMSUnavailable,
    KypelloError,
    NotAuthentic,
)
from kypello.interfaces import IKMS, ILanes
from kypello.kms import wire
from kypello.kms.agent import KESAgent
from kypello.kms.connections import PooledAgent
from kypello.kms.endpoints import Endpoint, Patience
from kypello.kms.failover import FailoverAgent
from kypello.kms.reasons import explain
from kypello.kms.tls import ClientTLS, Loaded
from kypello.model import DataKey
from kypello.objects.canary import GuardedKMS, Known

#: How far the clocks of both machines may differ, in seconds.
SKEW = 30.0

#: How long an answer may take, in seconds.
PATIENCE = 5.0

_ADVICE = (
    ("refuses connections", "start the key server, or correct {endpoint}"),
    ("cannot be resolved", "correct the host name in {endpoint}, or the name service"),
    ("not trusted", "name the certificate of its authority with MINIO_KMS_KES_CAPATH"),
    ("certificate expired", "renew the certificate of the key server"),
    ("not for this host name", "use a name of the certificate in {endpoint}, or renew it"),
    ("valid from", "set the clocks of both machines"),
    ("refuses our certificate", "see tls.auth of the key server, and its CA for clients"),
    ("does not speak TLS", "correct the port in {endpoint}"),
)
#: Of data keys that are thrown away.
_CONTEXT = context_bytes({"Kypello doctor": "round trip"})
_SETTING = "MINIO_KMS_KES_ENDPOINT"
_POLICY = "in the key server's policy for the identity {identity}, allow {path}"


@define(eq=False)
class EndpointExam:
    """
    Examines one key server.

    :ivar identity: Ours, as policies of the key server name it.
    :ivar reached: Whether it answers.
    :ivar made: A data key that it made; ``None`` when it made none.
    """

    _reactor: Any
    _url: str
    _loaded: Loaded
    _lanes: ILanes
    _key_name: str
    _identity: str
    chart: Chart
    kms: IKMS = field(init=False)
    reached: bool = field(init=False, default=False)
    made: DataKey | None = field(init=False, default=None)
    _pool: PooledAgent = field(init=False)
    _endpoint: Endpoint = field(init=False)
    _forbidden: list[str] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        """
        Put together a client of this server alone.
        """
        patience = Patience(attempt=PATIENCE, overall=PATIENCE, pause=0.0)
        self._pool = PooledAgent(self._reactor, ClientTLS(self._loaded), wire.repeatable)
        probe = wire.STATUS_PATH.encode("ascii")
        # It is not started: what fails is told, and neither put aside nor probed.
        self._endpoint = Endpoint(self._url, self._pool, self._reactor, probe, patience)
        agent = FailoverAgent(self._reactor, [self._endpoint], patience)
        self.kms = KESAgent(self._key_name, self._reactor, agent, [self._endpoint])

    async def run(self) -> None:
        """
        Check everything of it that needs no other server and no data.
        """
        self._pool.start()
        self.reached = await self._reach()
        if not self.reached:
            return
        await self._round_trip()
        await self._permissions()
        if len(self._forbidden) > 3:
            self.chart.failed(
                "identity",
                f"it forbids us nearly everything: it does not know our identity {self._identity}",
                "assign the identity to a policy of the key server that allows /v1/key/create/*,"
                " /v1/key/generate/*, /v1/key/decrypt/*, /v1/key/describe/*, /v1/key/list/* and"
                " /v1/status",
            )

    async def close(self) -> None:
        """
        Close all connections.
        """
        await self._pool.close()

    async def holds(
        self,
        guard: GuardedKMS,
        keys: Sequence[Known],
        needs: Callable[[str], Awaitable[bool]],
    ) -> list[str]:
        """
        Check that it holds the master keys that data depends on.

        :param guard: Knows what they sealed.
        :param needs: Tells whether data depends on a key still.
        :return: The names of those that it does not hold.
        """
        missing = []
        for known in keys:
            need = f"the data needs the key {known.name} with the fingerprint {known.fingerprint}"
            try:
                await guard.holds(self.kms, known.name)
            except KeyMismatch as error:
                missing.append(known.name)
                self.chart.failed("canary", str(error), _restore(known.name))
            except KeyNotFound:
                if not await needs(known.name):
                    gone = f"it does not hold the key {known.name}, which nothing needs any more"
                    self.chart.ok("canary", gone)
                    continue
                missing.append(known.name)
                self.chart.failed("canary", f"{need}, which it has lost", _restore(known.name))
            except KMSForbidden:
                self._forbid("decrypt", known.name)
            except KypelloError as error:
                self.chart.failed("canary", f"{need}: {error}", "see the log of the key server")
            else:
                self.chart.ok("canary", f"it holds the key {known.name} that the data needs")
        return missing

    async def agrees(self, other: "EndpointExam") -> None:
        """
        Check that it opens what another server has sealed.
        """
        if self.made is None or other.made is None:
            return
        made, name = other.made, other.chart.subject
        try:
            opened = await self.kms.decrypt_key(made.key_name, made.sealed, _CONTEXT)
        except NotAuthentic:
            opened = b""
        except KypelloError as error:
            self.chart.failed("agreement", f"what {name} sealed: {error}", "ask it again")
            return
        if opened == made.plaintext:
            self.chart.ok("agreement", f"it opens what {name} sealed")
            return
        self.chart.failed(
            "agreement",
            f"it holds other material under {made.key_name} than {name}",
            "give all key servers the same key store; remove the wrong one from"
            f" {_SETTING} until then",
        )

    async def _reach(self) -> bool:
        chart, began = self.chart, self._reactor.seconds()
        path = wire.STATUS_PATH.encode("ascii")
        try:
            response: Any = await self._endpoint.request(b"GET", path, seconds=PATIENCE)
        except Exception as error:
            words = explain(error)
            chart.failed("connection", words, _advice(words))
            return False
        took = self._reactor.seconds() - began
        chart.ok("connection", f"it answers within {took * 1000:.0f} ms")
        parts = urlsplit(self._url)
        shown = await self._lanes.lane().run(shown_by, parts.hostname, parts.port or 443, PATIENCE)
        check_server(chart, shown, self._reactor.seconds())
        self._clock(response, began, took)
        self._status(response)
        return True

    def _status(self, response: Any) -> None:
        if response.code == 403:
            self._forbid("status", "")
            return
        try:
            if response.code != 200:
                raise wire.Nonsense()
            trouble, version = wire.read_status(response.body), wire.read_version(response.body)
        except wire.Nonsense:
            told = wire.told(response.code, response.body)
            self.chart.failed(
                "status", f"it answers {told}", f"see that a key server listens there ({_SETTING})"
            )
            return
        if trouble:
            self.chart.failed("status", trouble, "see the log of the key server")
        else:
            self.chart.ok("status", f"version {version}")

    def _clock(self, response: Any, began: float, took: float) -> None:
        (told, *_) = response.headers.getRawHeaders("date") or [""]
        try:
            there = parsedate_to_datetime(told).timestamp()
        except (TypeError, ValueError):
            self.chart.skipped("clock", "it does not tell its time")
            return
        # It told whole seconds, some time during the call.
        ahead = there + 0.5 - (began + took / 2)
        if abs(ahead) > SKEW:
            self.chart.warning(
                "clock",
                f"its clock is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'}"
                " ours: certificates may count as expired, or as not valid yet",
                "set the clocks of both machines (NTP)",
            )
        else:
            self.chart.ok("clock", f"it differs from ours by less than {SKEW:.0f} seconds")

    async def _round_trip(self) -> None:
        name, chart = self._key_name, self.chart
        made = await self._try("generate", lambda: self.kms.generate_key(name, _CONTEXT))
        if made is None:
            return
        chart.ok("generate", f"it makes data keys under {name}")
        opened = await self._try(
            "decrypt", lambda: self.kms.decrypt_key(name, made.sealed, _CONTEXT)
        )
        if opened is None:
            return
        if opened != made.plaintext:
            chart.failed("decrypt", "a data key opens to something else", "do not use this server")
            return
        chart.ok("decrypt", "it opens what it sealed")
        self.made = made

    async def _permissions(self) -> None:
        name = self._key_name
        if await self._try("describe", lambda: self.kms.describe_key(name)):
            self.chart.ok("describe", f"it tells about {name}")
        if await self._try("list", lambda: self.kms.list_keys("")) is not None:
            self.chart.ok("list", "it lists the keys")
        if self.made is None:
            self.chart.skipped("create", "not tried, as that would make a key")
            return
        # The key is there, so that nothing is made.
        try:
            await self.kms.create_key(name)
        except KeyExists:
            self.chart.ok("create", "it would let us make keys")
        except KMSForbidden:
            self.chart.warning(
                "create",
                "it does not let us make keys, which is needed for mc admin kms key create alone",
                self._allow("create", "*"),
            )
            self._forbidden.append("create")
        except KypelloError as error:
            self.chart.failed("create", str(error), "see the log of the key server")

    async def _try(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """
        Make a call; ``None`` when it fails, which is told.
        """
        name = self._key_name
        try:
            return await call()
        except KMSForbidden:
            self._forbid(operation, name)
        except KeyNotFound:
            if operation == "generate":
                self.chart.warning(
                    "key",
                    f"it has no key {name}",
                    "the server makes it at its first start, unless data depends on the key; or"
                    " make it with kes key create, or correct MINIO_KMS_KES_KEY_NAME",
                )
        except KMSUnavailable as error:
            words = error.reason.removeprefix(f"{self._url}: ")
            self.chart.failed(operation, words, _advice(words))
        except KypelloError as error:
            self.chart.failed(operation, str(error), "see the log of the key server")
        return None

    def _forbid(self, operation: str, name: str) -> None:
        self._forbidden.append(operation)
        advice = self._allow(operation, "*" if operation == "list" else name)
        words = f"it forbids us to {operation}" + (" keys" if operation == "list" else "")
        if operation in ("generate", "decrypt"):
            self.chart.failed(operation, f"{words} with the key {name}", advice)
        else:
            self.chart.warning(operation, f"{words}, which is needed to watch over it", advice)

    def _allow(self, operation: str, name: str) -> str:
        path = f"/v1/key/{operation}/{name}" if name else f"/v1/{operation}"
        return _POLICY.format(identity=self._identity, path=path)


def _restore(name: str) -> str:
    return (
        f"restore the key {name} from a backup of the key store; do not make a new one. Leave this"
        f" key server out of {_SETTING} until then"
    )


def _advice(words: str) -> str:
    for part, advice in _ADVICE:
        if part in words:
            return advice.format(endpoint=_SETTING)
    return f"see that the key server runs, and that {_SETTING} leads to it"
