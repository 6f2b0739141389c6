# SPDX-License-Identifier: Apache-2.0
"""What every network of the project offers: an encoder with levels, and a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn


class LevelSpec(NamedTuple):
    """One level of an encoder: its name, its channels, and how many input pixels a side of its pixel covers."""

    name: str
    channels: int
    stride: int


class Features(NamedTuple):
    """Output, encoder levels (shallow to deep), and the levels adapted to another network's widths (may be empty)."""

    output: Tensor
    levels: list[Tensor]
    adapted: list[Tensor]


class FeatureNet(nn.Module):
    """A network cut in two: `encode(image) -> levels`, `decode(levels, image) -> output`, nothing hidden between.

    `forward(image) = decode(encode(image), image)`. Image `(B, in_channels, *grid)`, output `(B, out_channels, *grid)`
    raw logits, levels `(B, channels, *grid / stride)` shallow to deep, the last one the bottleneck. A subclass writes
    `encode` and `decode`, sets the attributes below, and may be a subclass of a stock network as well, which keeps that
    network's state-dict keys: `class UNet(FeatureNet, BasicUNet)`. Explicit methods, no hooks, so that it compiles
    without graph breaks, scripts, exports, copies and pickles.
    """

    # A constant to TorchScript, which then does not compile calls into a half that is gone.
    __constants__ = ("whole",)
    whole = True

    if TYPE_CHECKING:  # TorchScript would read these annotations, and it knows neither their types nor strings
        encoder_children: tuple[str, ...]  # names of the children that `encode` uses; the others are the decoder's
        spatial_dims: int
        in_channels: int
        level_specs: tuple[LevelSpec, ...]
        spec: dict[str, Any]  # a MONAI component (plain JSON) that rebuilds the network without its weights
        stock: dict[str, Any] | None  # the library's class that runs these weights without this code, if there is one
    else:
        stock = None

    def encode(self, image: Tensor) -> list[Tensor]:
        """Levels of the image, shallow to deep."""
        raise NotImplementedError

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        """Output for levels of `encode`, or for others of the same shapes (a joint teacher's)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        return self.forward_features(image)[0]

    @torch.jit.export
    def forward_features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Output and levels of one pass."""
        if self.whole:
            levels = self.encode(image)
            return self.decode(levels, image), levels
        raise RuntimeError("half of this network was dropped (encoder_only, decoder_only): call encode or decode")

    def encoder_only(self) -> FeatureNet:
        """Drop the decoder's children in place; the state-dict keys of what stays are unchanged."""
        return self._drop([name for name in self._modules if name not in self.encoder_children])

    def decoder_only(self) -> FeatureNet:
        """Drop the encoder's children in place; the state-dict keys of what stays are unchanged."""
        return self._drop([name for name in self._modules if name in self.encoder_children])

    def _drop(self, children: list[str]) -> FeatureNet:
        for name in children:
            delattr(self, name)
        self.whole = False
        return self

    def decoder_state(self) -> dict[str, Tensor]:
        """State dict of the decoder alone, with the keys of `decoder_only().state_dict()`."""
        return {k: v for k, v in self.state_dict().items() if k.split(".")[0] not in self.encoder_children}

    def with_outputs(self, out_channels: int) -> FeatureNet:
        """A new network of this architecture, freshly initialised, with another number of output channels."""
        spec = self.spec | {"out_channels": out_channels}
        return ConfigParser({"network": spec}).get_parsed_content("network")
