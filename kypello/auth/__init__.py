# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Pure request authentication: signatures and aws-chunked framing.
"""
