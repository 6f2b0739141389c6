# SPDX-License-Identifier: Apache-2.0
"""Distillation terms, one a file: `term(student: Features, teacher: Features) -> scalar`, levels already paired."""

from .align import Align
from .contrastive import Contrastive
from .cosine import Cosine
from .soft_output import SoftOutput

__all__ = ["Align", "Contrastive", "Cosine", "SoftOutput"]
