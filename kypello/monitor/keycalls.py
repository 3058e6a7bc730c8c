# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Counts the calls of a KMS, and how long they take.
"""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

from attrs import define
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from kypello.errors import KMSUnavailable
from kypello.interfaces import IKMS
from kypello.model import DataKey, KeyInfo, KMSStatus
from kypello.monitor.tally import Tally

_T = TypeVar("_T")


@implementer(IKMS)
@define(eq=False)
class CountedKMS:
    """
    A key service whose calls about keys are counted.

    A call that the service refuses, or that is given up, is an *error*; one that it does not
    answer is a *failure*.
    """

    _kms: IKMS
    _tally: Tally
    _clock: IReactorTime

    @property
    def default_key(self) -> str:
        """
        That of the service.
        """
        return self._kms.default_key

    async def generate_key(self, key_name: str, context: bytes) -> DataKey:
        """
        Make a data key.
        """
        return await self._counted("generate", self._kms.generate_key(key_name, context))

    async def decrypt_key(self, key_name: str, sealed: bytes, context: bytes) -> bytes:
        """
        Open a sealed data key.
        """
        return await self._counted("decrypt", self._kms.decrypt_key(key_name, sealed, context))

    async def create_key(self, key_name: str) -> None:
        """
        Make a new master key.
        """
        await self._counted("create", self._kms.create_key(key_name))

    async def describe_key(self, key_name: str) -> KeyInfo:
        """
        Tell about a master key; not counted.
        """
        return await self._kms.describe_key(key_name)

    async def list_keys(self, prefix: str) -> Sequence[str]:
        """
        The names of the master keys that begin so; not counted.
        """
        return await self._kms.list_keys(prefix)

    async def status(self) -> KMSStatus:
        """
        How the service is; not counted.
        """
        return await self._kms.status()

    async def _counted(self, call: str, work: Awaitable[_T]) -> _T:
        began, outcome = self._clock.seconds(), "error"
        try:
            result = await work
            outcome = "success"
        except KMSUnavailable:
            outcome = "failure"
            raise
        finally:
            lasted = max(0.0, self._clock.seconds() - began)
            self._tally.add(f"kms {call} {outcome}")
            self._tally.add("kms_nanoseconds", int(lasted * 1e9))
            self._tally.last(self._tally.layout.kms_durations, lasted)
        return result
