# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Kypello: an S3-compatible object server whose encryption can be proved.
"""
