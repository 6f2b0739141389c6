# SPDX-License-Identifier: Apache-2.0
"""Networks: each is an encoder with levels and a head (FeatureNet)."""

from .feature_net import FeatureNet, Features, LevelSpec
from .fusion import CrossAttentionFusion
from .joint_teacher import JointTeacher
from .multi_head import MultiHead
from .transresunet import TransResUNet
from .unet import UNet

__all__ = [
    "CrossAttentionFusion",
    "FeatureNet",
    "Features",
    "JointTeacher",
    "LevelSpec",
    "MultiHead",
    "TransResUNet",
    "UNet",
]
