# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The policies that are there without being stored.
"""

from collections.abc import Mapping

from kypello.policy.document import Policy

#: By name.  A stored policy of the same name takes the place of one of these.
CANNED: Mapping[str, Policy] = {}
