# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Who is told what happens: targets of notifications, and those who listen.
"""
