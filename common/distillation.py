# SPDX-License-Identifier: Apache-2.0
"""Stage 3: a student learns a task and, by a curriculum, the features of a frozen teacher."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor, nn

from .early_late import PooledAdapters, pair_blocks
from .losses.maps import full_precision
from .networks import FeatureNet, Features, LevelSpec

Term = Callable[[Features, Features], Tensor]
# Far below any live channel's variance: with a larger one (1e-5) faint teacher maps and a shrinking adapter escape.
EPS = 1e-8


def pair_levels(
    student: Sequence[LevelSpec], teacher: Sequence[LevelSpec], levels: Sequence[str] | Mapping[str, str] | None = None
) -> list[tuple[int, int]]:
    """Indices (student's, teacher's) of the levels that are compared, shallow to deep.

    Levels are paired by stride, and the bottlenecks (last of each) with one another whatever their strides. `levels`
    names levels of the student; None takes every level that has a partner; a mapping names the teacher's level of each
    level of the student. Raises ValueError for no or unknown names, and for a named level without a partner.
    """
    names = [spec.name for spec in student]
    if isinstance(levels, Mapping):
        return named_pairs(names, [spec.name for spec in teacher], levels)
    if levels is not None:
        unknown = [name for name in levels if name not in names]
        if unknown or not levels:
            raise ValueError(f"levels: {', '.join(unknown) or 'empty list'}; the student's levels are {', '.join(names)}")
    by_stride = {spec.stride: j for j, spec in enumerate(teacher[:-1])}
    pairs = [(i, by_stride[spec.stride]) for i, spec in enumerate(student[:-1]) if spec.stride in by_stride]
    pairs.append((len(student) - 1, len(teacher) - 1))
    if levels is None:
        return pairs
    alone = [name for name in levels if names.index(name) not in [i for i, _ in pairs]]
    if alone:
        strides = ", ".join(str(spec.stride) for spec in teacher)
        raise ValueError(f"levels: {', '.join(alone)} of the student has no partner; the teacher's strides are {strides}")
    return [(i, j) for i, j in pairs if names[i] in levels]


def named_pairs(student: list[str], teacher: list[str], levels: Mapping[str, str]) -> list[tuple[int, int]]:
    """Indices of the pairs that `levels` (student's name -> teacher's name) spells out."""
    unknown = [f"{s}: {t}" for s, t in levels.items() if s not in student or t not in teacher]
    if unknown or not levels:
        raise ValueError(
            f"levels: {', '.join(unknown) or 'empty'}; give student's: teacher's, of the student's levels "
            f"{', '.join(student)} and the teacher's {', '.join(teacher)}"
        )
    return sorted((student.index(s), teacher.index(t)) for s, t in levels.items())


def standardise(level: Tensor) -> Tensor:
    """Every channel of every image `(B, C, *grid)` to mean 0 and deviation 1 over its grid; a constant one gives 0.

    Raises ValueError for a grid of one pixel, whose maps would all be 0 and would pull the student's there.
    """
    if level.shape[2:].numel() < 2:
        raise ValueError("a level of one pixel cannot be aligned: use larger images or leave it out of `levels`")
    return F.layer_norm(full_precision(level), level.shape[2:], eps=EPS)


class TeacherStudent(nn.Module):
    """Teacher and student on the same images, in one forward; what stage 3 trains is the student and the adapters.

    `forward(image) -> (student, teacher)`, both Features with `levels` paired by `pair_levels`. `teacher.adapted` is
    the teacher's level, standardised, brought to the student's width by a learned 1x1 convolution and standardised
    again; `student.adapted` is the student's level, or a 1x1 convolution of it with `student_adapter`. The teacher is
    frozen: no gradient, eval mode even under `train()`, its decoder runs only if `teacher_output` (else
    `teacher.output` is an empty tensor). `adapters=False` builds none, for losses without align and cosine; `adapted`
    is then empty.

    Decision: standardised before the adapter, so that all the teacher's channels count alike, and after it, because
    adapter and student otherwise shrink to zero together (the next norm makes up for it, so that no task loss resists);
    the adapter has no bias, because a common offset of both sides would satisfy the cosine. A student's level behind a
    ReLU cannot reach the negative half of the target; with `student_adapter` it can. Standardised an image at a time,
    not over the batch: this depends neither on the batch's other images (other datasets among them) nor on how ranks
    share them, and has no state. What is lost, a channel's mean over the image, is what the contrastive term compares.

    Classification (early-k, late-k): with `pairing` "early" or "late" the student's last `k` levels pair with the teacher's
    first or last k FusionAttention blocks (`pair_blocks`), and `adapted` are pooled vectors (`PooledAdapters`).
    Raises ValueError for options that exclude one another.
    """

    def __init__(
        self,
        student: FeatureNet,
        teacher: FeatureNet,
        *,
        levels: Sequence[str] | Mapping[str, str] | None = None,
        student_adapter: bool = False,
        teacher_output: bool = False,
        adapters: bool = True,
        pairing: str | None = None,
        k: int | None = None,
    ) -> None:
        super().__init__()
        if student_adapter and not adapters:
            raise ValueError("student_adapter=True needs adapters=True")
        if (pairing is None) != (k is None):
            raise ValueError(f"pairing: {pairing}, k: {k}; give both (early-k, late-k) or neither")
        if pairing is not None and (levels is not None or student_adapter):
            raise ValueError("pairing: chooses the levels and adapts the student's; leave out levels and student_adapter")
        self.student = student
        self.teacher = teacher.requires_grad_(False).eval()
        if pairing is None or k is None:
            self.pairs = pair_levels(student.level_specs, teacher.level_specs, levels)
        else:
            self.pairs = pair_blocks(student.level_specs, teacher.level_specs, pairing=pairing, k=k)
        self.teacher_output = teacher_output
        widths = [(student.level_specs[i].channels, teacher.level_specs[j].channels) for i, j in self.pairs]
        self.pooled = PooledAdapters(widths) if adapters and pairing is not None else None
        # Over the flattened grid a 1x1 convolution is the same in 2-D and 3-D.
        self.adapters = nn.ModuleList(nn.Conv1d(t, s, 1, bias=False) for s, t in widths if adapters and pairing is None)
        self.student_adapters = nn.ModuleList(nn.Conv1d(s, s, 1) for s, _ in widths if student_adapter)

    @property
    def deployable(self) -> nn.Module:
        """The student: its state dict is what is saved as model.pt."""
        return self.student

    def train(self, mode: bool = True) -> TeacherStudent:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Features, Features]:
        with torch.no_grad():
            maps = self.teacher.encode(image)
            teacher_output = self.teacher.decode(maps, image) if self.teacher_output else image.new_empty(0)
            teacher_levels = [maps[j] for _, j in self.pairs]
            standard = [standardise(level) for level in teacher_levels] if len(self.adapters) else []
        output, student_maps = self.student.forward_features(image)
        student_levels = [student_maps[i] for i, _ in self.pairs]
        teacher_adapted = [standardise(adapt(a, x)) for a, x in zip(self.adapters, standard, strict=True)]
        adapted = student_levels if len(self.adapters) else []
        if len(self.student_adapters):
            adapted = [adapt(a, x) for a, x in zip(self.student_adapters, student_levels, strict=True)]
        teacher_adapted = [laid_out_like(s, t) for s, t in zip(adapted, teacher_adapted, strict=True)]
        if self.pooled is not None:
            adapted, teacher_adapted = self.pooled(student_levels, teacher_levels)
        # Adapters stay in the graph when no term reads them: DDP waits for the gradient of every parameter.
        modules = [self.adapters, self.student_adapters, *([self.pooled] if self.pooled is not None else [])]
        parameters = [parameter for module in modules for parameter in module.parameters()]
        if parameters:
            output = output + 0 * torch.stack([parameter.sum() for parameter in parameters]).sum()
        return Features(output, student_levels, adapted), Features(teacher_output, teacher_levels, teacher_adapted)


def adapt(adapter: nn.Module, level: Tensor) -> Tensor:
    """A convolution over the flattened grid, put back on the grid: `(B, C, *grid) -> (B, C', *grid)`."""
    return adapter(level.flatten(2)).unflatten(2, level.shape[2:])


def laid_out_like(student: Tensor, teacher: Tensor) -> Tensor:
    """The teacher's map in the memory format of the student's.

    Where the two differ, so do the gradients that meet at the student's level, and its backward pass is far slower.
    """
    last = torch.channels_last if student.ndim == 4 else torch.channels_last_3d
    return teacher.contiguous(memory_format=last) if student.is_contiguous(memory_format=last) else teacher


class DistillationLoss(nn.Module):
    """Task loss on the labelled images plus, times the curriculum factor, the weighted terms on all images.

    `L = alpha task(output[:n], label) + cf sum_k weights[k] terms[k](student, teacher)` (eq. 9 of multi-dataset
    cross-domain distillation; `beta`, `gamma`, `delta` are the weights of contrastive, align and cosine; eq. 16, for
    classification, has no contrastive term, and `kappa` is the weight of the soft output). The n labelled images come
    first in the batch; the rest, unlabelled or of other datasets, carry the terms only.

    `cf` (0 until set) and `weights` are set by `Curriculum`. A term with weight 0 is not computed; with `cf` 0 terms
    are, so that the log shows them from the first epoch. `terms` holds the last values, detached, for the log.
    Raises ValueError if the names of terms and weights differ.
    """

    def __init__(
        self,
        *,
        task: Callable[[Tensor, Tensor], Tensor],
        terms: Mapping[str, Term],
        weights: Mapping[str, float],
        alpha: float = 0.5,
    ) -> None:
        super().__init__()
        different = sorted(set(terms) ^ set(weights))
        if different:
            raise ValueError(f"weights: {', '.join(different)} is not both a term and a weight; terms are {', '.join(terms)}")
        self.task = task
        self.functions = dict(terms)
        self.weights = dict(weights)
        self.alpha = alpha
        self.cf = 0.0
        self.terms: dict[str, Tensor] = {}

    def forward(self, pred: tuple[Features, Features], label: Tensor) -> Tensor:
        student, teacher = pred
        if len(label) > len(student.output):
            raise ValueError(f"{len(label)} labels for {len(student.output)} images: labels may be fewer, not more")
        # A task loss of no images would be NaN; this is 0 and keeps the decoder in the graph.
        task = self.task(student.output[: len(label)], label) if len(label) else (0 * student.output).sum()
        values = {name: self.functions[name](student, teacher) for name, weight in self.weights.items() if weight}
        self.terms = {name: value.detach() for name, value in {"task": task, **values}.items()}
        total = self.alpha * task
        for name, value in values.items():
            total = total + self.cf * self.weights[name] * value
        return total


class Curriculum:
    """Ignite handler that sets a DistillationLoss's factor, contrastive temperature and weight at every epoch's start.

    With `p = clip((epoch - warmup) / ramp, 0, 1)` and epochs counted from 0 (ignite counts from 1), as multi-dataset
    cross-domain distillation's table 1:
    `cf = ceiling p` (or `ceiling (1 - cos(pi p)) / 2` with shape "cosine");
    `t = max(t_floor, t_start t_decay^(epoch / t_every))`;
    `beta` from `beta[0]` to `beta[1]`, linear in p, is the contrastive term's weight; `beta=(0, 0)` turns the term off.
    `beta=None` leaves the weight as configured, and so does a configured weight of 0 (off); any other one only says that
    the term is on.
    Decision: a ceiling scales the ramp, so that it is reached at the ramp's end whatever it is; `ramp` 0 is a step.
    All are functions of the epoch alone, so a resumed run needs no state. Raises ValueError for values out of range.
    """

    def __init__(
        self,
        loss: DistillationLoss,
        *,
        warmup: float = 5,
        ramp: float = 10,
        ceiling: float = 1.0,
        shape: str = "linear",
        t_start: float = 2.0,
        t_decay: float = 0.9,
        t_every: float = 5,
        t_floor: float = 0.5,
        beta: Sequence[float] | None = (0.1, 0.5),
    ) -> None:
        if shape not in ("linear", "cosine"):
            raise ValueError(f"curriculum shape {shape!r}: use 'linear' or 'cosine'")
        if min(warmup, ramp, ceiling) < 0 or min(t_start, t_decay, t_every, t_floor) <= 0:
            raise ValueError("curriculum: warmup, ramp and ceiling must not be negative, temperatures must be positive")
        pair = isinstance(beta, Sequence) and len(beta) == 2 and all(isinstance(b, int | float) and b >= 0 for b in beta)
        if beta is not None and not pair:
            raise ValueError(
                f"curriculum beta: {beta!r}; give its first and last weight, such as [0.1, 0.5], or [0, 0] for none"
            )
        self.loss = loss
        self.warmup, self.ramp, self.ceiling, self.shape = warmup, ramp, ceiling, shape
        self.t_start, self.t_decay, self.t_every, self.t_floor = t_start, t_decay, t_every, t_floor
        self.contrastive = "contrastive" in loss.weights and loss.weights["contrastive"] != 0
        self.beta_range = beta

    @property
    def full_epoch(self) -> int:
        """First epoch, counted from 0, with cf at its ceiling; models are compared from here on."""
        return math.ceil(self.warmup + self.ramp)

    def progress(self, epoch: int) -> float:
        if epoch >= self.warmup + self.ramp:
            return 1.0
        return max(0.0, (epoch - self.warmup) / self.ramp) if self.ramp else 0.0

    def factor(self, epoch: int) -> float:
        p = self.progress(epoch)
        return self.ceiling * (p if self.shape == "linear" else (1 - math.cos(math.pi * p)) / 2)

    def temperature(self, epoch: int) -> float:
        return max(self.t_floor, self.t_start * self.t_decay ** (epoch / self.t_every))

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.warn_if_too_long)
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def warn_if_too_long(self, engine: Engine) -> None:
        """No epoch has the factor at its ceiling: the run then keeps its last one."""
        if engine.state.max_epochs is not None and engine.state.max_epochs <= self.full_epoch:
            warnings.warn(
                f"the curriculum (warmup {self.warmup:g} + ramp {self.ramp:g} epochs) is not over in {engine.state.max_epochs}"
                " epochs, so that distillation is never fully on; train longer, or shorten warmup and ramp.",
                stacklevel=2,
            )

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch - 1
        self.loss.cf = self.factor(epoch)
        if not self.contrastive:
            return
        self.loss.functions["contrastive"].temperature = self.temperature(epoch)  # type: ignore[attr-defined]
        if self.beta_range is not None:
            low, high = self.beta_range
            self.loss.weights["contrastive"] = low + (high - low) * self.progress(epoch)
