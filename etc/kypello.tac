# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The object server as a Twisted application, with its settings from the environment::

    MINIO_VOLUMES=./export MINIO_ADDRESS=127.0.0.1:9000 twistd -ny etc/kypello.tac
"""

from twisted.application.service import Application

from kypello.tap import application_service

application = Application("kypello")
application_service().setServiceParent(application)
