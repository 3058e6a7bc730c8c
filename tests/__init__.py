# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The tests of Kypello; the tree mirrors the package.
"""

from hypothesis import HealthCheck, settings

# How fast a machine is, or how busy, decides about no test.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
