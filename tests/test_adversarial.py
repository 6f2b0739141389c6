# SPDX-License-Identifier: Apache-2.0
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from monai.losses import DiceCELoss
from torch import nn

from common.adversarial import (
    AdversarialLoss,
    AdversarialOutput,
    AdversarialTeacher,
    AdversarialWeight,
    DomainDiscriminator,
    GradientReversal,
    adversarial_weight,
    one_or_own_heads,
)
from common.networks import JointClassifier, MultiHead, UNet
from tests.tiny_classifier import TinyClassifier, images, tiny

WIDTHS = (2, 3, 4, 5, 6, 2)


def build(seed: int = 0, **options) -> AdversarialTeacher:
    torch.manual_seed(seed)
    return AdversarialTeacher(UNet(features=WIDTHS), **options).train()


def multi_head() -> MultiHead:
    torch.manual_seed(0)
    return MultiHead(UNet(features=WIDTHS), {"a": 2, "b": 3}, "b")


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    return image, (image > 0.5).long()


def task() -> nn.Module:
    return DiceCELoss(include_background=False, softmax=True, to_onehot_y=True)


def test_reversal_is_the_identity_forward_and_the_negative_backward() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64)
    y = GradientReversal.apply(x)
    assert torch.equal(y, x)
    (y * weight).sum().backward()
    assert torch.equal(x.grad, -weight)


def test_discriminator_learns_and_the_encoder_unlearns() -> None:
    """Of the plain domain loss's gradient the discriminator gets lambda times, the network minus lambda times."""
    module, (image, _) = build(), batch()
    loss = AdversarialLoss(task=lambda output, label: 0 * output.sum(), r=1)
    loss.weight = 0.3
    loss(module(image, 3), (torch.empty(0), torch.empty(0))).backward()
    logits = module.discriminator(module.network.encode(image)[-1])
    plain = F.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 1, 1, 0, 0, 0]))
    head, body = list(module.discriminator.parameters()), list(module.network.down_4.parameters())
    wanted = torch.autograd.grad(plain, head + body)
    for i, (parameter, want) in enumerate(zip(head + body, wanted, strict=True)):
        sign = 1 if i < len(head) else -1
        torch.testing.assert_close(parameter.grad, sign * 0.3 * want, rtol=1e-3, atol=1e-7)
    assert sum(p.grad.abs().sum() for p in body) > 0


def test_discriminator_has_the_decided_form_and_leaves_the_random_state() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two, three = (DomainDiscriminator(6, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.layers[0].weight, two.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, three.layers[0].weight)
    level = torch.randn(2, 6, 3, 4, 2)
    hidden = (level.mean((2, 3, 4)) @ one.layers[0].weight.T + one.layers[0].bias).clamp(min=0)
    assert hidden.shape == (2, 256)
    want = (hidden @ one.layers[2].weight.T + one.layers[2].bias)[:, 0]
    torch.testing.assert_close(one(level), want)
    torch.testing.assert_close(one(level.repeat(1, 1, 2, 2, 1)), want)


def train(
    lambdas_enabled: bool, discriminator: bool, r: int = 1, corrupt: bool = False, network=None, classes: int = 0, **names
) -> dict:
    """Weights of the network after a few Adam steps under an ignite engine; a classifier's with `classes`."""
    torch.manual_seed(0)
    if classes:
        network = TinyClassifier(out_channels=classes)
    module = AdversarialTeacher(network or UNet(features=WIDTHS), discriminator=discriminator, **names).train()
    noise = torch.rand(1)  # anything drawn after construction is drawn alike
    loss = AdversarialLoss(task=nn.CrossEntropyLoss() if classes else task(), r=r)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)

    def step(engine: Engine, seed: int) -> float:
        image, label = batch(seed)
        label = (torch.arange(6) + seed) % classes if classes else label
        target_label = torch.full_like(label[3:], -77) if corrupt else label[3:]
        optimizer.zero_grad()
        value = loss(module(image + noise, 3), (label[:3], target_label))
        value.backward()
        optimizer.step()
        return value.item()

    engine = Engine(step)
    AdversarialWeight(loss, enabled=lambdas_enabled).attach(engine)
    engine.run([1, 2, 3, 4], max_epochs=2)
    return {key: value.clone() for key, value in module.deployable.state_dict().items()}


def equal(one: dict, two: dict) -> bool:
    return all(torch.equal(one[key], two[key]) for key in one)


TASKS = pytest.mark.parametrize("classes", [0, 3], ids=["segmentation", "classification"])


@TASKS
def test_lambda_zero_is_joint_training_without_a_discriminator_bit_for_bit(classes: int) -> None:
    without = train(False, discriminator=False, classes=classes)
    assert equal(train(False, discriminator=True, classes=classes), without)
    assert not equal(train(True, discriminator=True, classes=classes), without)


@TASKS
def test_with_r_zero_the_targets_labels_change_nothing(classes: int) -> None:
    without = train(True, discriminator=True, r=0, classes=classes)
    assert equal(train(True, discriminator=True, r=0, corrupt=True, classes=classes), without)
    assert not equal(without, train(True, discriminator=True, r=1, classes=classes))


def test_one_network_decodes_both_domains_in_one_pass() -> None:
    module, (image, _) = build(), batch()
    module.eval()
    output = module(image, 2)
    assert isinstance(output, AdversarialOutput) and output.domain.shape == (6,)
    torch.testing.assert_close(torch.cat([output.source, output.target]), module.network(image))
    assert len(output.source) == 2
    UNet(features=WIDTHS).load_state_dict(module.deployable.state_dict(), strict=True)
    assert build(discriminator=False)(image, 2).domain is None


def test_encode_runs_once_for_both_domains() -> None:
    module, calls = build(), []
    encode = module.network.encode
    module.network.encode = lambda image: calls.append(len(image)) or encode(image)
    module(batch()[0], 3)
    assert calls == [6]


def test_each_domain_has_its_own_decoder_of_a_multi_head_network() -> None:
    network = multi_head()
    module = AdversarialTeacher(network, source="a", target="b").eval()
    image, _ = batch()
    output = module(image, 2)
    levels = network.encode(image)
    torch.testing.assert_close(output.source, network.decode_head("a", [x[:2] for x in levels], image[:2]))
    torch.testing.assert_close(output.target, network.decode_head("b", [x[2:] for x in levels], image[2:]))
    assert output.source.shape[1] == 2 and output.target.shape[1] == 3


def test_without_a_decoder_of_the_targets_own_every_parameter_trains() -> None:
    """r = 0 and other classes: the source's decoder is the only one; the target is seen by the discriminator alone."""

    def network() -> MultiHead:
        torch.manual_seed(0)
        return MultiHead(UNet(features=WIDTHS), {"a": 2}, "a")

    one = train(True, discriminator=True, r=0, network=network(), source="a")
    assert equal(train(True, discriminator=True, r=0, network=network(), source="a", corrupt=True), one)
    module = AdversarialTeacher(network(), source="a").train()
    image, label = batch()
    pred, loss = module(image, 2), AdversarialLoss(task=task(), r=0)
    assert pred.target is None and len(pred.source) == 2 and len(pred.domain) == 6
    loss.weight = 0.3
    loss(pred, (label[:2], None)).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in module.named_parameters() if "norm" not in name)
    with pytest.raises(ValueError, match="needs the target's labels and a decoder for it; give them or set r: 0"):
        AdversarialLoss(task=task(), r=1)(module(image, 2), (label[:2], label[2:]))


def test_loss_is_the_printed_sum_and_logs_its_terms() -> None:
    image, label = batch()
    pred = build()(image, 2)
    pred = pred._replace(domain=torch.tensor([2.0, -1, -3, 4, -5, -6]))
    loss = AdversarialLoss(task=task(), r=1)
    loss.weight = 0.3
    signed = [-2.0, 1, -3, 4, -5, -6]  # log(1 + e^x) with the sign of being wrong
    domain = sum(math.log1p(math.exp(x)) for x in signed) / 6
    parts = task()(pred.source, label[:2]), task()(pred.target, label[2:])
    assert loss(pred, (label[:2], label[2:])).item() == pytest.approx((parts[0] + parts[1]).item() + 0.3 * domain, rel=1e-5)
    logged = {name: value.item() for name, value in loss.terms.items()}
    assert logged == pytest.approx(
        {
            "task_source": parts[0].item(), "task_target": parts[1].item(), "domain": domain, "domain_weight": 0.3,
            "discriminator_accuracy": 4 / 6, "discriminator_chance": 4 / 6,
        }
    )  # fmt: skip
    assert not any(value.requires_grad for value in loss.terms.values())
    low = AdversarialLoss(task=task(), r=0)(pred._replace(source=pred.source.bfloat16()), (label[:2], None))
    assert low.isfinite()


def test_weight_follows_the_printed_schedule_and_resumes() -> None:
    loss, seen = AdversarialLoss(task=task()), []
    engine = Engine(lambda *_: seen.append(loss.weight))
    AdversarialWeight(loss).attach(engine)
    engine.run(range(5), max_epochs=4)
    assert seen == pytest.approx([2 / (1 + math.exp(-10 * i / 20)) - 1 for i in range(20)])
    assert seen[0] == 0 and adversarial_weight(0.53) > 0.99 > adversarial_weight(0.52)
    resumed, again = [], AdversarialLoss(task=task())
    engine = Engine(lambda *_: resumed.append(again.weight))
    AdversarialWeight(again).attach(engine)
    engine.load_state_dict({"epoch": 3, "max_epochs": 4, "epoch_length": 5})
    engine.run(range(5))
    assert resumed == seen[15:]


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("r", [0, 1])
def test_classifiers_train_on_class_indices(heads: bool, r: int) -> None:
    """Logits `(B, K)` and labels `(B,)`; the discriminator reads the pooled bottleneck. Own heads may differ in classes."""
    own = {"a": 3, "b": 2} if r else {"a": 3}
    network = MultiHead(tiny(), own, "a") if heads else tiny()
    names = dict(zip(("source", "target"), own, strict=False)) if heads else {}
    module = AdversarialTeacher(network, **names).train()
    image, loss = images(6), AdversarialLoss(task=nn.CrossEntropyLoss(), r=r)
    loss.weight = 0.3
    pred = module(image, 4)
    assert pred.source.shape == (4, 3) and pred.domain.shape == (6,)
    assert pred.target is None if heads and not r else pred.target.shape == (2, 2 if heads else 3)
    source, target = torch.tensor([0, 2, 1, 0]), torch.tensor([1, 0])
    parts = [F.cross_entropy(pred.source, source), *([F.cross_entropy(pred.target, target)] if r else [])]
    domain = F.binary_cross_entropy_with_logits(pred.domain, torch.tensor([1.0, 1, 1, 1, 0, 0]))
    value = loss(pred, (source, target if r else None))
    torch.testing.assert_close(value, sum(parts) + 0.3 * domain)
    value.backward()
    assert all(p.grad is not None for p in module.parameters())
    torch.testing.assert_close(
        module.eval()(image, 4).domain, module.discriminator.layers(network.encode(image)[-1].mean((2, 3)))[:, 0]
    )


def test_the_discriminator_reads_a_joint_classifiers_last_block() -> None:
    module = AdversarialTeacher(JointClassifier([tiny(), tiny(1)], 3, joint_ch=8)).train()
    assert module.discriminator.layers[0].in_features == 8
    module(images(4), 2).domain.sum().backward()
    assert all(p.grad is None for p in module.network.teachers.parameters())


def test_own_heads_only_where_the_class_lists_differ() -> None:
    def facts(*classes: str, labelled: bool = True) -> SimpleNamespace:
        known = SimpleNamespace(classes=dict.fromkeys(classes), out_channels=len(classes))
        return SimpleNamespace(facts=known, labelled=labelled)

    network = tiny(out_channels=2)
    same = {"a": facts("normal", "ill"), "b": facts("normal", "ill")}
    assert one_or_own_heads(network, same, target="b") is network
    for other in (facts("ill", "normal"), facts("normal", "mild", "severe")):  # the order is that of the outputs
        own = one_or_own_heads(network, {"a": same["a"], "b": other}, target="b")
        assert isinstance(own, MultiHead) and own.target == "b"
        assert own(images()).shape == (4, len(other.facts.classes))
    unread = {"a": same["a"], "b": facts("normal", "ill", labelled=False)}
    assert one_or_own_heads(network, unread, target="a") is network
    other = {"a": same["a"], "b": facts("normal", "mild", "severe", labelled=False)}
    assert list(one_or_own_heads(network, other, target="a").decoders) == ["a"]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="r: 2"):
        AdversarialLoss(task=task(), r=2)
    with pytest.raises(ValueError, match="set r: 0"):
        pred = build()(batch()[0], 3)
        AdversarialLoss(task=task(), r=1)(pred, (batch()[1][:3], None))
    with pytest.raises(ValueError, match="both domains"):
        build()(batch()[0], 6)
    with pytest.raises(ValueError, match="heads \\(none\\)"):
        build(source="a", target="b")
    for names in ({}, {"source": "a"}, {"source": "a", "target": "a"}, {"source": "a", "target": "c"}):
        with pytest.raises(ValueError, match="give each of its heads \\(a, b\\) once"):
            AdversarialTeacher(multi_head(), **names)
    with pytest.raises(ValueError, match="the source's at least"):
        AdversarialTeacher(MultiHead(UNet(features=WIDTHS), {"b": 3}, "b"), target="b")
