# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The S3 front: resources, wire formats and the error table.
"""
