# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The tests of Kypello; the tree mirrors the package.
"""
