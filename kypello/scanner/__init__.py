# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Walks over all that is stored, and those who come along: they count, and remove what is over.
"""
