# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Lifecycles of objects: the rules of a bucket, and what they say about its versions.  Pure.
"""
