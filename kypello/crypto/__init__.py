# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Pure cryptography: formats, keys and digests.  No Twisted, no clock, no I/O.
"""
