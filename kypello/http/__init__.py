# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Streaming HTTP over twisted.web; knows no S3.
"""
