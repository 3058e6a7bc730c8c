# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The language of policies: documents, what matches, and the decision.  Pure.
"""
