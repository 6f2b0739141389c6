# SPDX-License-Identifier: Apache-2.0
"""Joint teacher (stage 2): the frozen encoders of all teachers, their fusion, and a new decoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .feature_net import FeatureNet, LevelSpec
from .fusion import CrossAttentionFusion


class JointTeacher(FeatureNet):
    """A FeatureNet whose `encode` fuses what several teachers encode, and whose decoder is new.

    Stage 2 of multi-dataset cross-domain distillation, section 3.2. `teachers[0]` is the target teacher (in
    joint_wide the one that validates best, see `common.runs.from_runs`), the others are the sources. Levels (names,
    widths, strides) and the decoder's architecture are the first teacher's; the decoder is freshly initialised. With
    `warm_start` (ours, not the paper's) it is a copy of the first teacher's: until the first step the output in eval
    mode is then exactly that teacher's. The encoders are copies, frozen: no gradient, eval mode even under `train()`,
    so their batch-norm statistics stay too. The teachers' decoders are never run and not part of the state dict.

    At each level named in `levels` (None: all) the first teacher's map attends to those of the others that have a
    level of the same stride, see `CrossAttentionFusion` for `heads`, `tokens` and `norm`; bottlenecks always pair
    with one another. A level that is not named, or that no other has, passes the first's map through.
    Raises ValueError for fewer than two teachers, teachers of other dimensions or input channels, unknown level
    names, or if nothing is left to fuse.
    """

    encoder_children = ("teachers", "fusions")

    def __init__(
        self,
        teachers: Sequence[FeatureNet],
        out_channels: int,
        *,
        levels: Sequence[str] | None = None,
        heads: int = 4,
        tokens: int = 16,
        norm: str = "batch",
        warm_start: bool = False,
    ) -> None:
        super().__init__()
        encoders = frozen_encoders(teachers)
        target = teachers[0]
        # (level, [(teacher, its level), ...]) of what is fused
        plan = fusion_plan([teacher.level_specs for teacher in teachers], levels)
        self.fused = [i for i, _ in plan]
        self.partners = [partners for _, partners in plan]
        self.spatial_dims = target.spatial_dims
        self.in_channels = target.in_channels
        self.level_specs = target.level_specs
        self.spec = {
            "_target_": f"{__package__}.JointTeacher",
            "teachers": [teacher.spec for teacher in teachers],
            "out_channels": out_channels,
            "levels": None if levels is None else list(levels),
            "heads": heads,
            "tokens": tokens,
        } | ({} if norm == "batch" else {"norm": norm})
        self.teachers = encoders
        self.fusions = nn.ModuleList()
        for i, partners in plan:
            channels = target.level_specs[i].channels
            widths = [teachers[k].level_specs[j].channels for k, j in partners]
            self.fusions.append(
                CrossAttentionFusion(self.spatial_dims, channels, widths, heads=heads, tokens=tokens, norm=norm)
            )
        self.decoder = target.with_outputs(out_channels).decoder_only()
        if warm_start:
            try:
                self.decoder.load_state_dict(target.decoder_state())
            except RuntimeError as error:
                raise ValueError(
                    f"warm_start: the first teacher's decoder does not fit one of {out_channels} output channels "
                    f"({str(error).splitlines()[-1].strip()}); set warm_start: false"
                ) from error

    def train(self, mode: bool = True) -> JointTeacher:
        super().train(mode)
        if "teachers" in self._modules:  # not after decoder_only
            self.teachers.eval()
        return self

    def encode(self, image: Tensor) -> list[Tensor]:
        maps: list[list[Tensor]] = []
        with torch.no_grad():
            for teacher in self.teachers:
                maps.append(teacher.encode(image))  # type: ignore[operator]
        joint = list(maps[0])
        for n, fusion in enumerate(self.fusions):
            sources: list[Tensor] = []
            for k, j in self.partners[n]:
                sources.append(maps[k][j])
            i = self.fused[n]
            joint[i] = fusion(maps[0][i], sources)
        return joint

    def decode(self, levels: list[Tensor], image: Tensor) -> Tensor:
        return self.decoder.decode(levels, image)


def frozen_encoders(teachers: Sequence[FeatureNet]) -> nn.ModuleList:
    """Copies of the teachers' encoders, the target teacher's first, without gradients and in eval mode.

    Raises ValueError for fewer than two teachers, or if they do not read the same images.
    """
    if len(teachers) < 2:
        raise ValueError(f"teachers: {len(teachers)}; give the target teacher first, then at least one source teacher")
    target = teachers[0]
    for k, source in enumerate(teachers[1:], start=1):
        if (source.spatial_dims, source.in_channels) != (target.spatial_dims, target.in_channels):
            raise ValueError(
                f"teachers[{k}] reads {source.spatial_dims}-D images of {source.in_channels} channels, the target "
                f"teacher {target.spatial_dims}-D images of {target.in_channels}: all see the same image"
            )
    encoders = nn.ModuleList(copy.deepcopy(teacher).encoder_only() for teacher in teachers)
    return encoders.requires_grad_(False).eval()


def fusion_plan(
    teachers: Sequence[Sequence[LevelSpec]], levels: Sequence[str] | None
) -> list[tuple[int, list[tuple[int, int]]]]:
    """What is fused with what: (level of the target teacher 0, [(source teacher, its level), ...])."""
    target = teachers[0]
    names = [spec.name for spec in target]
    chosen = names if levels is None else list(levels)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise ValueError(f"levels: {', '.join(unknown)} unknown; the target teacher's levels are {', '.join(names)}")
    plan = []
    for i in [names.index(name) for name in names if name in chosen]:
        partners = []
        for k, source in enumerate(teachers[1:], start=1):
            deepest = len(source) - 1
            same = [j for j in range(deepest) if source[j].stride == target[i].stride]
            if i == len(target) - 1:
                partners.append((k, deepest))
            elif same:
                partners.append((k, same[-1]))
        if partners:
            plan.append((i, partners))
    if not plan:
        raise ValueError(
            f"levels: {chosen} leave nothing to fuse, no source has a level of their strides; the target "
            f"teacher's levels are {', '.join(names)}"
        )
    return plan
