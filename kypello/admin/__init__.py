# Copyright the Kypello authors.
# SPDX-License-Identifier: Apache-2.0
"""
The front for administrators: the admin API of MinIO, and that of its KMS.
"""
