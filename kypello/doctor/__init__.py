# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
``kypello kms doctor``: what is wrong between a server, its key servers and the keys of its data.
"""
