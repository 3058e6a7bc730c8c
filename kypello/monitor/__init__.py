# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
Health for probes, and metrics for Prometheus.
"""
