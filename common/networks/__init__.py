# SPDX-License-Identifier: Apache-2.0
"""Networks: each is an encoder with levels and a head (FeatureNet)."""

from .efficientnet import EfficientNet
from .feature_net import FeatureNet, Features, LevelSpec
from .fusion import CrossAttentionFusion
from .fusion_attention import FusionAttention
from .hybrid import Hybrid
from .joint_classifier import JointClassifier
from .joint_teacher import JointTeacher
from .medvit import MedViT
from .multi_head import MultiHead
from .transresunet import TransResUNet
from .unet import UNet
from .vgg import VGG19
from .vit import ViT

__all__ = [
    "VGG19",
    "CrossAttentionFusion",
    "EfficientNet",
    "FeatureNet",
    "Features",
    "FusionAttention",
    "Hybrid",
    "JointClassifier",
    "JointTeacher",
    "LevelSpec",
    "MedViT",
    "MultiHead",
    "TransResUNet",
    "UNet",
    "ViT",
]
