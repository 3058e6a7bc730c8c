# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What twistd offers once Kypello is installed: ``twistd kypello`` and ``twistd kypello-kes``.
"""

from twisted.application.service import ServiceMaker

kypello = ServiceMaker(
    "Kypello",
    "kypello.tap",
    "An S3-compatible object server whose encryption can be proved.",
    "kypello",
)

kypello_kes = ServiceMaker(
    "Kypello key server",
    "kypello.kes_tap",
    "A key server that speaks the KES API.",
    "kypello-kes",
)
