# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Statements: what a policy consists of.
"""

from attrs import frozen


@frozen
class Statement:
    """
    What is allowed or denied.
    """
