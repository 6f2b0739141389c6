# SPDX-License-Identifier: Apache-2.0
"""Datasets, folds, the slice store and the transforms."""
