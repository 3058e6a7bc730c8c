# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What a server needs from the disk, read before the reactor runs.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from kypello.config import Config
from kypello.embedded import Embedded, free_port, provision
from kypello.errors import ConfigurationError
from kypello.http.tls import AUTHORITIES, TLSFiles, all_there, load, pairs_of_hosts
from kypello.iam.authorities import Authorities
from kypello.identities import asked_of_clients, load_authorities
from kypello.kms import tls as kms_tls
from kypello.kmsconfig import KESSettings, StaticKeySettings
from kypello.model import Identity
from kypello.pemfiles import Loaded
from kypello.place import ALONE, Place
from kypello.store.directory import DataDirectory


@frozen
class Prepared:
    """
    What a server needs from the disk before it starts.

    :ivar root: Who may do everything.
    :ivar made_root: Whether its credentials were made just now.
    :ivar kms: How to reach the KMS.
    :ivar kes_files: Certificate and key for KES; ``None`` with a static key.
    :ivar embedded: The key server to run inside; ``None`` with a KMS of one's own.
    :ivar tls_files: What TLS is made of; ``None`` for plain HTTP.
    :ivar tls: What was read of them.
    :ivar authorities: Who vouches for other servers, and for clients.
    """

    config: Config
    directory: DataDirectory
    root: Identity
    made_root: bool
    kms: KESSettings | StaticKeySettings
    kes_files: kms_tls.Loaded | None
    embedded: Embedded | None
    tls_files: TLSFiles | None
    tls: Loaded | None
    authorities: Authorities
    place: Place = ALONE


def prepare(config: Config, place: Place = ALONE) -> Prepared:
    """
    Read and make what is on disk; blocking.

    :param place: Of a worker, for which credentials and KMS are in *config* already.
    :raises ConfigurationError: With every mistake that can be told now.
    """
    mistakes: list[str] = []

    def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
        """
        Go on after a mistake, to tell the others too.
        """
        try:
            return call(*arguments)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
            return None

    certs_dir = config.certs_dir or default_certs_dir()
    told = _about_certificates(certs_dir, named=config.certs_dir is not None)
    config = evolve(config, warnings=(*config.warnings, *told))
    tls_files = _tls_files(certs_dir, config)
    authorities = attempt(
        load_authorities, config.identity, certs_dir / AUTHORITIES, bool(config.events.webhooks)
    )
    tls = None if tls_files is None else attempt(load, tls_files)
    kms, kes_files, embedded = config.kms, None, None
    if isinstance(kms, KESSettings):
        folder = certs_dir / AUTHORITIES
        if kms.ca_path is None and folder.is_dir():
            kms = evolve(kms, ca_path=folder)
        kes_files = attempt(kms_tls.load, kms)
    directory = attempt(DataDirectory, config.directory, place.lock)
    if mistakes:
        if directory is not None:
            directory.close()
        raise ConfigurationError(tuple(mistakes))
    try:
        root, made_root = config.root, False
        if root is None:
            root, made_root = directory.credentials(os.urandom)
        if kms is None:
            port = free_port(os.urandom)
            embedded = provision(
                directory.path, time.time(), os.urandom, port, config.passphrase_file
            )
            kms = embedded.settings
            kes_files = kms_tls.load(kms)
    except BaseException:
        directory.close()
        raise
    return Prepared(
        config,
        directory,
        root,
        made_root,
        kms,
        kes_files,
        embedded,
        tls_files,
        tls,
        authorities,
        place,
    )


def default_certs_dir() -> Path:
    """
    Where certificates lie when nobody says where: that of MinIO, if there is none of ours.
    """
    ours, theirs = (Path.home() / name / "certs" for name in (".kypello", ".minio"))
    return theirs if theirs.is_dir() and not ours.is_dir() else ours


def _about_certificates(certs_dir: Path, *, named: bool) -> list[str]:
    """
    Warnings about the folder of certificates.

    :param named: Whether somebody has named it; the unit for systemd names one that many do not
        make, so that it is no mistake when it is not there.
    """
    if named and not certs_dir.is_dir():
        return [f"The folder of certificates {certs_dir} is not there: this is HTTP without TLS."]
    if not certs_dir.is_dir():
        return []
    hosts = pairs_of_hosts(certs_dir)
    told = [
        f"{key.parent} has only one of private.key and public.crt: it is not used."
        for key, cert in hosts
        if key.is_file() != cert.is_file()
    ]
    whole = [cert.parent.name for key, cert in hosts if all_there((key, cert))]
    default = certs_dir / "public.crt"
    if whole and not default.exists():
        told.append(
            f"This is HTTP without TLS: the certificates of {', '.join(whole)} in {certs_dir} are"
            f" only used beside {default}, which is for clients that ask for no host, or another."
        )
    return told


def _tls_files(certs_dir: Path, config: Config) -> TLSFiles | None:
    key, cert = certs_dir / "private.key", certs_dir / "public.crt"
    # One without the other is a mistake, which loading them tells.
    if not key.exists() and not cert.exists():
        return None
    clients = asked_of_clients(config.identity)
    # As with MinIO there may be more, for other hosts, each in a folder of its own.
    return TLSFiles(key, cert, config.cert_password, clients=clients, hosts=certs_dir)
