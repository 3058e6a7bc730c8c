# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Drivers that reach a key management service.
"""
