# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Drivers that keep objects: the layout over an index and blobs.
"""
