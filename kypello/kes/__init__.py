# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The KES-compatible key server front.
"""
