# SPDX-License-Identifier: Apache-2.0
"""Medistill: from several datasets to one distilled student, as MONAI bundles."""
