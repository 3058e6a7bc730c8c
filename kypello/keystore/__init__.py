# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Drivers that keep master keys for the key server.
"""
