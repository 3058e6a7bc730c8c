# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The security token service: temporary credentials.
"""
