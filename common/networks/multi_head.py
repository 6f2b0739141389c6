# SPDX-License-Identifier: Apache-2.0
"""One encoder, one decoder a dataset."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from .feature_net import FeatureNet


class MultiHead(FeatureNet):
    """A network's encoder, shared, and a decoder of its architecture for every dataset (the multi-head baseline).

    `heads`: dataset -> output channels. `forward` and `decode` use the decoder of `target`; `decode_head` that of any.
    The encoder is a copy with the network's weights, the decoders are freshly initialised.
    Raises ValueError for no heads, a target without a head, or a name that cannot be a part of a state-dict key.
    """

    encoder_children = ("encoder",)

    def __init__(self, network: FeatureNet, heads: Mapping[str, int], target: str) -> None:
        super().__init__()
        if target not in heads:
            raise ValueError(f"target: {target!r} has no head; heads are {', '.join(heads) or 'empty'}")
        bad = [name for name in heads if not name.isidentifier()]
        if bad:
            raise ValueError(f"heads: {', '.join(map(repr, bad))}; use letters, digits and underscores")
        self.target = target
        self.spatial_dims = network.spatial_dims
        self.in_channels = network.in_channels
        self.level_specs = network.level_specs
        self.spec = {
            "_target_": f"{__package__}.MultiHead",
            "network": network.spec,
            "heads": dict(heads),
            "target": target,
        }
        self.encoder = copy.deepcopy(network).encoder_only()
        self.decoders = nn.ModuleDict({name: network.with_outputs(n).decoder_only() for name, n in heads.items()})

    def encode(self, image: Tensor) -> list[Tensor]:
        return self.encoder.encode(image)

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.decode_head(self.target, levels, image)

    def decode_head(self, name: str, levels: list[Tensor], image: Tensor) -> Tensor:
        """Output of the named dataset's decoder; ValueError for an unknown name."""
        # A loop, because TorchScript indexes a ModuleDict by literals only.
        for key, decoder in self.decoders.items():
            if key == name:
                return decoder.decode(levels, image)  # type: ignore[operator]
        raise ValueError(f"no head {name}")

    def decoder_state(self) -> dict[str, Tensor]:
        """State dict of the target's decoder."""
        return self.decoders[self.target].state_dict()

    def with_outputs(self, out_channels: int) -> FeatureNet:
        """A new network of the shared architecture with one head, freshly initialised."""
        return self.encoder.with_outputs(out_channels)
