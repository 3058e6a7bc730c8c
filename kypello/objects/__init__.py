# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
What the product does with objects, written over the seams.
"""
