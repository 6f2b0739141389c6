# SPDX-License-Identifier: Apache-2.0
"""Distillation terms, one a file: `term(student: Features, teacher: Features) -> scalar`, levels already paired.

ClassWeightedCrossEntropy is a task loss: `task(output, label) -> scalar`.
"""

from .align import Align
from .class_weighted import ClassWeightedCrossEntropy
from .contrastive import Contrastive
from .cosine import Cosine
from .geometric_fusion import GeometricFusion
from .soft_output import SoftOutput

__all__ = ["Align", "ClassWeightedCrossEntropy", "Contrastive", "Cosine", "GeometricFusion", "SoftOutput"]
