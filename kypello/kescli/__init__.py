# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The commands of the key server.
"""
