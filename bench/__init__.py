# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Measurements against the limits of the same machine, in the same run.
"""
