# SPDX-License-Identifier: Apache-2.0
"""Networks script, compile without graph breaks and export to ONNX, and compute the same there."""

import warnings

import pytest
import torch


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript(network, image) -> None:
    scripted = torch.jit.script(network)
    x = image(network)
    with torch.no_grad():
        output, levels = network.forward_features(x)
        torch.testing.assert_close(scripted(x), output, rtol=1e-5, atol=1e-5)
        got, got_levels = scripted.forward_features(x)
    torch.testing.assert_close(got, output, rtol=1e-5, atol=1e-5)
    for one, two in zip(got_levels, levels, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_compile_without_graph_breaks(network, image) -> None:
    torch.compiler.reset()
    compiled = torch.compile(network, fullgraph=True, backend="eager")  # the tracer is what may fail, not the compiler
    x = image(network)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), network(x), rtol=1e-5, atol=1e-5)
    torch.compiler.reset()


def test_compile_of_a_training_step(build, image) -> None:
    torch.compiler.reset()
    network = build("joint_unet").train()
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    compiled(image(network, side=64)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())
    torch.compiler.reset()


def test_onnx(network, image) -> None:
    x = image(network, 80 if network.spatial_dims == 2 else 16, batch=1)  # 80: pooled to tokens unevenly
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
        got = program(x)[0]
        torch.testing.assert_close(got, network(x), rtol=0, atol=1e-4)
