# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The examination as a whole: settings, key servers, and the keys that data depends on.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, gatherResults

from kypello.config import Arguments, Config, parse_config
from kypello.doctor.certificate import check_client
from kypello.doctor.data import Data
from kypello.doctor.endpoint import EndpointExam
from kypello.doctor.findings import Chart, Tell
from kypello.environment import ReadText
from kypello.errors import ConfigurationError
from kypello.interfaces import ILanes
from kypello.kms import tls as kms_tls
from kypello.kms.builtin import StaticKMS
from kypello.kmsconfig import KESSettings, StaticKeySettings
from kypello.prepared import default_certs_dir
from kypello.storekeys import find_keys, make_kms

SETTINGS = "settings"

_CHECK = "configuration"


@frozen
class Given:
    """
    What is examined.

    :ivar directory: Of the data; ``None`` when none is named.
    :ivar readable: Whether it is held, so that what is in it can be read.
    :ivar certs_dir: As the server's option of this name.
    :ivar variables: The environment.
    """

    directory: Path | None
    readable: bool
    certs_dir: str | None
    variables: Mapping[str, str] = field(repr=False)
    read: ReadText


@define(eq=False)
class Examination:
    """
    One examination.
    """

    _reactor: Any
    _given: Given
    _lanes: ILanes
    _tell: Tell
    _chart: Chart = field(init=False)

    def __attrs_post_init__(self) -> None:
        """
        Begin with the settings.
        """
        self._chart = Chart(self._tell, SETTINGS)

    async def run(self) -> None:
        """
        Check everything that can be checked.

        :raises KypelloError: What is in the data directory cannot be read.
        """
        config = self._configuration()
        if config is None:
            return
        data = None
        if self._given.readable and self._given.directory is not None:
            data = await Data.open(self._reactor, self._given.directory, self._lanes, self._tell)
        try:
            if isinstance(config.kms, KESSettings):
                await self._key_servers(config, config.kms, data)
            elif isinstance(config.kms, StaticKeySettings):
                self._chart.ok(_CHECK, f"the static key {config.kms.name} is used")
                if data is not None:
                    await data.check(StaticKMS(config.kms, os.urandom), config.kms.name)
            else:
                await self._embedded(config, data)
        finally:
            if data is not None:
                await data.close()

    def _configuration(self) -> Config | None:
        given = self._given
        # Without a directory, any will do.
        arguments = Arguments((str(given.directory or "."),), None, given.certs_dir)
        try:
            config = parse_config(arguments, given.variables, given.read)
        except ConfigurationError as error:
            self._mistakes(error)
            return None
        for warning in config.warnings:
            self._chart.warning(_CHECK, warning.rstrip("."), "see kypello server --help")
        for sentence in config.unused:
            self._chart.ok(_CHECK, sentence.rstrip("."))
        return config

    async def _key_servers(self, config: Config, settings: KESSettings, data: Data | None) -> None:
        authorities = (config.certs_dir or default_certs_dir()) / "CAs"
        if settings.ca_path is None and authorities.is_dir():
            settings = evolve(settings, ca_path=authorities)
        try:
            loaded = kms_tls.load(settings)
        except ConfigurationError as error:
            self._mistakes(error)
            return
        count = len(settings.endpoints)
        self._chart.ok(_CHECK, f"{count} key servers, and the default key {settings.key_name}")
        identity = check_client(self._chart, settings, loaded, self._reactor.seconds())
        exams = [
            EndpointExam(
                self._reactor,
                url,
                loaded,
                self._lanes,
                settings.key_name,
                identity,
                Chart(self._tell, url),
            )
            for url in settings.endpoints
        ]
        try:
            running = [Deferred.fromCoroutine(exam.run()) for exam in exams]
            await gatherResults(running, consumeErrors=True)
            await self._compare(exams, data)
        finally:
            for exam in exams:
                await exam.close()

    async def _compare(self, exams: Sequence[EndpointExam], data: Data | None) -> None:
        """
        See that those that answer hold the keys that data needs, or at least the same ones.
        """
        answering = [exam for exam in exams if exam.reached]
        if data is not None and data.known:
            lost: set[str] = set()
            default_key = exams[0].kms.default_key
            needs = partial(data.needs, default_key=default_key)
            for exam in answering:
                lost.update(await exam.holds(data.guard(exam.kms), data.known, needs))
            await data.tell_need(sorted(lost), default_key)
        first = next((exam for exam in answering if exam.made is not None), None)
        for exam in answering:
            if first is not None and exam is not first:
                await exam.agrees(first)

    async def _embedded(self, config: Config, data: Data | None) -> None:
        directory = self._given.directory
        if directory is None:
            self._chart.skipped(
                "keys",
                "the key server inside is used, whose keys lie in the data directory: name"
                " it, as in kypello kms doctor DIR",
            )
            return
        try:
            keys = find_keys(directory, self._given.variables)
        except ConfigurationError as error:
            self._mistakes(error)
            return
        if keys.folder is None:
            if data is None or not data.known:
                self._chart.ok(
                    "keys", "the key server inside is used; its keys are made at the first start"
                )
                return
            self._chart.failed(
                "keys",
                f"{directory}/kes/keys, where the keys of the key server inside lie, is missing,"
                " though data depends on them",
                "restore it from a backup; or set MINIO_KMS_KES_... or MINIO_KMS_SECRET_KEY, if"
                " the server had these",
            )
            return
        self._chart.ok(_CHECK, f"the key server inside is used, with the keys in {keys.folder}")
        if data is not None:
            kms, _ = make_kms(self._reactor, keys, self._lanes, data.index)
            await data.check(kms, kms.default_key)

    def _mistakes(self, error: ConfigurationError) -> None:
        for mistake in error.mistakes:
            self._chart.failed(_CHECK, mistake.rstrip("."), "correct this setting")
