# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One suite per interface, run by every provider.
"""
