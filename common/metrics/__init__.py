# SPDX-License-Identifier: Apache-2.0
"""Metrics by case: validation Dice on stored slices, whole-volume metrics, paired bootstrap over patients."""

from .bootstrap import Difference, paired_difference
from .case_dice import CaseDice
from .volume import CaseMetrics

__all__ = ["CaseDice", "CaseMetrics", "Difference", "paired_difference"]
