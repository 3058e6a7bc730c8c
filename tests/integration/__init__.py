# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Tests with real sockets, real processes and real clients.
"""
