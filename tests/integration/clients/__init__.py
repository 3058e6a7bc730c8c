# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
One story of everyday use, lived through by every client that people point at an S3 endpoint.
"""
