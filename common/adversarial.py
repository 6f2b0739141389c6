# SPDX-License-Identifier: Apache-2.0
"""Stage 1: a source teacher learns a source and the target dataset while a discriminator cannot tell them apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor, nn

from .data.fold import FoldData
from .networks import FeatureNet, MultiHead


class GradientReversal(torch.autograd.Function):
    """Identity whose gradient changes sign (Ganin and Lempitsky 2015), coefficient 1: the loss's weight acts once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


class DomainDiscriminator(nn.Module):
    """Logit `(B,)` that a level `(B, C, *grid)` is of the source: global mean, linear 256, ReLU, linear 1.

    Initialised from `seed` under a forked generator: building one leaves the global random state where it was, so
    training with and without a discriminator starts alike.
    """

    def __init__(self, channels: int, *, seed: int = 0) -> None:
        super().__init__()
        # Only the CPU's generator is forked and seeded; torch.manual_seed would reseed the GPU's as well.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(channels, 256), nn.ReLU(), nn.Linear(256, 1))

    def forward(self, level: Tensor) -> Tensor:
        return self.layers(level.flatten(2).mean(-1)).squeeze(1)


class AdversarialOutput(NamedTuple):
    """Outputs (maps or class logits) of source and target images; domain logits `(B,)` of both, source first, or None.

    `target` is None where the target has no decoder.
    """

    source: Tensor
    target: Tensor | None
    domain: Tensor | None


class AdversarialTeacher(nn.Module):
    """A network and the discriminator of its bottleneck, on source and target images in one encode.

    `forward(image, n_source) -> AdversarialOutput`; the first `n_source` images are the source's. With a MultiHead
    network `source` and `target` name each half's decoder (class lists differ), otherwise one decoder runs over all.
    A decoder of the target's own learns from its labels alone, so with r = 0 there is none (`target` None).
    `discriminator=False` is the same joint training without it (`domain` is None).
    Decision: one concatenated forward, so that both domains share batch-norm statistics and DDP sees one call.
    Raises ValueError if names and network do not fit, or if one domain has no image.
    """

    def __init__(
        self,
        network: FeatureNet,
        *,
        source: str | None = None,
        target: str | None = None,
        discriminator: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        heads = list(network.decoders) if isinstance(network, MultiHead) else []
        names = [name for name in (source, target) if name is not None]
        if sorted(names) != sorted(heads) or (heads and source is None):
            raise ValueError(
                f"adversarial teacher with source {source!r} and target {target!r} on {type(network).__name__}: "
                f"give each of its heads ({', '.join(heads) or 'none'}) once, the source's at least"
            )
        self.network = network
        self.source, self.target = source or "", target or ""
        channels = network.level_specs[-1].channels
        self.discriminator = DomainDiscriminator(channels, seed=seed) if discriminator else None

    @property
    def deployable(self) -> nn.Module:
        """The network: its state dict is what is saved as model.pt."""
        return self.network

    def forward(self, image: Tensor, n_source: int) -> AdversarialOutput:
        n = int(n_source)
        if not 0 < n < len(image):
            raise ValueError(f"{n} source images in a batch of {len(image)}: both domains need at least one")
        levels = self.network.encode(image)
        target: Tensor | None = None
        if isinstance(self.network, MultiHead):
            source = self.network.decode_head(self.source, [level[:n] for level in levels], image[:n])
            if self.target:
                target = self.network.decode_head(self.target, [level[n:] for level in levels], image[n:])
        else:
            output = self.network.decode(levels, image)
            source, target = output[:n], output[n:]
        domain = None
        if self.discriminator is not None:
            domain = self.discriminator(GradientReversal.apply(levels[-1]))
        return AdversarialOutput(source, target, domain)


class AdversarialLoss(nn.Module):
    """Task loss of the source, of the target if `r` is 1, and the weighted domain loss.

    `L = task(source) + r task(target) + weight BCE(domain, d)`, d = 1 for source and 0 for target (eqs. 2-6 of
    multi-dataset cross-domain distillation). `forward(pred, (source_label, target_label))`; with `r` 0 the target's
    label may be None and is never read. `weight` is lambda, set by `AdversarialWeight`.
    `terms` holds, detached, the parts, lambda, the discriminator's accuracy and chance (the bigger domain's share):
    accuracy flat at chance is success, flat at 1 is failure. Raises ValueError for another `r`, or `r` 1 without label.
    """

    def __init__(self, *, task: Callable[[Tensor, Tensor], Tensor], r: int = 1) -> None:
        super().__init__()
        if r not in (0, 1):
            raise ValueError(f"r: {r!r}; use 0 (target labels never read) or 1")
        self.task = task
        self.r = r
        self.weight = 0.0
        self.terms: dict[str, Tensor] = {}

    def forward(self, pred: AdversarialOutput, labels: tuple[Tensor, Tensor | None]) -> Tensor:
        source_label, target_label = labels
        total = self.task(pred.source, source_label)
        self.terms = {"task_source": total.detach()}
        if self.r:
            if target_label is None or pred.target is None:
                raise ValueError("r: 1 needs the target's labels and a decoder for it; give them or set r: 0")
            task_target = self.task(pred.target, target_label)
            self.terms["task_target"] = task_target.detach()
            total = total + task_target
        if pred.domain is not None:
            total = total + self.weight * self._domain_loss(pred.domain.float(), len(pred.source))
        return total

    def _domain_loss(self, domain: Tensor, n_source: int) -> Tensor:
        truth = torch.zeros_like(domain)
        truth[:n_source] = 1
        loss = F.binary_cross_entropy_with_logits(domain, truth)
        n_most = max(n_source, len(domain) - n_source)
        self.terms["domain"] = loss.detach()
        self.terms["domain_weight"] = torch.full_like(self.terms["domain"], self.weight)
        self.terms["discriminator_accuracy"] = ((domain > 0) == (truth > 0)).float().mean()
        self.terms["discriminator_chance"] = torch.full_like(self.terms["domain"], n_most / len(domain))
        return loss


class AdversarialWeight:
    """Ignite handler that sets an AdversarialLoss's weight at every iteration's start.

    `lambda = 2 / (1 + exp(-10 rho)) - 1`, `rho = (iteration - 1) / (max_epochs epoch_length)`; `enabled=False` holds it
    at 0. Decision: rho counts the steps already taken (ignite's iteration is 1 at the first), so training begins at 0.
    A function of the iteration alone, so a resumed run needs no state.
    """

    def __init__(self, loss: AdversarialLoss, *, enabled: bool = True) -> None:
        self.loss = loss
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state = engine.state
        assert state.max_epochs and state.epoch_length  # ignite sets both before the first iteration
        rho = (state.iteration - 1) / (state.max_epochs * state.epoch_length)
        self.loss.weight = adversarial_weight(rho) if self.enabled else 0.0


def adversarial_weight(rho: float) -> float:
    """Lambda at the share `rho` of training done: 0 at 0, above 0.99 from rho = 0.53 on."""
    return 2 / (1 + math.exp(-10 * rho)) - 1


def full_epoch(max_epochs: int) -> int:
    """First epoch, from 0, that begins with lambda at or above 0.99; models are compared from here on."""
    return math.ceil(math.log(199) / 10 * max_epochs)


def one_or_own_heads(network: FeatureNet, data: FoldData, *, target: str) -> FeatureNet:
    """The network itself where all datasets have the same classes, else a MultiHead of it with a decoder a dataset.

    `target` is the dataset whose head the plain `forward` uses, on whose labels the model is selected: at r = 0 the source.
    Decision: a dataset whose labels are not read (r = 0) gets no decoder of its own: none would be trained, and whoever asks
    for it later is refused rather than given noise.
    Raises ValueError where that has one class to tell apart (classification): nothing can be learned or compared.
    """
    facts = {name: entry.facts for name, entry in data.items()}
    if facts[target].out_channels == 1:  # a segmentation has the background beside its one class
        only = next(iter(facts[target].classes))
        raise ValueError(
            f"source {target} has one class ({only}), so that at r: 0 there is nothing to learn from or to select a model by; "
            "set r: 1, add images of another class, or leave it out of the sources."
        )
    if len({tuple(f.classes) for f in facts.values()}) == 1:
        return network
    return MultiHead(network, {name: f.out_channels for name, f in facts.items() if data[name].labelled}, target)
