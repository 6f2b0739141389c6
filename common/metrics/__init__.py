# SPDX-License-Identifier: Apache-2.0
"""Metrics by case or image: on stored validation slices, on test volumes and images, paired bootstrap over patients."""

from .bootstrap import Difference, paired_difference, paired_scores
from .case_dice import CaseDice
from .image_accuracy import ImageAccuracy
from .images import ImageMetrics
from .volume import CaseMetrics

__all__ = ["CaseDice", "CaseMetrics", "Difference", "ImageAccuracy", "ImageMetrics", "paired_difference", "paired_scores"]
