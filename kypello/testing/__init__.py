# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Support for tests: the in-memory harness, fakes that pass their contract, vectors.
"""
