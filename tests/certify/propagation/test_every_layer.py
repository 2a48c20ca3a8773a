"""Every layer and setting: its graph answers as the network, its adjoint is one, its bounds and constants hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from layered import LAYERS, between
from propagating import F64, SHAPE, candidates, evaluated, images_for, proven, steps_within
from robusteval.certify.propagation.ball import InputBall
from robusteval.certify.propagation.graph import Graph
from robusteval.certify.propagation.intermediate_bounds import refined
from robusteval.certify.propagation.interval_bounds import propagated
from robusteval.certify.propagation.lipschitz_constants import layer_constants, value_constants
from robusteval.certify.propagation.ops import Affine
from robusteval.certify.propagation.places import Box
from robusteval.certify.propagation.trace import trace
from robusteval.core.errors import UnsupportedError
from robusteval.core.norms import BALLS, Norm
from robusteval.models.checkpoints import open_checkpoint


def _exported(network: nn.Module, path: Path) -> None:
    sizes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (torch.rand(3, *SHAPE),), dynamic_shapes=sizes), path)


def _traced(network: nn.Module, path: Path) -> None:
    torch.jit.save(torch.jit.trace(network, torch.rand(3, *SHAPE)), path)


SAVED: dict[str, tuple[str, Callable[[nn.Module, Path], None]]] = {
    "exported": ("net.pt2", _exported),
    "traced": ("net.ts", _traced),
}
UNREAD = (
    ("adaptive maximum", "exported"),
    ("adaptive maximum", "traced"),
    ("strided", "traced"),
    ("indices", "traced"),
    ("soft sign", "exported"),
    ("soft sign", "traced"),
)
"""Refused, as programs name them: a maximum with its places, sizes and indices as tensors, a quotient."""
SETTINGS = pytest.mark.parametrize("layer", LAYERS)


@SETTINGS
def test_the_graph_answers_as_the_network(layer: str) -> None:
    classifier = between(LAYERS[layer](), F64)
    pixels = candidates(5, classifier.input_shape).to(F64)
    found = evaluated(trace(classifier), pixels)[-1].flatten(1)
    torch.testing.assert_close(found, classifier.predict(pixels), atol=1e-9, rtol=0)


def _boxes(graph: Graph, k: int) -> list[Box]:
    _, height, width = graph.nodes[k].shape
    low = Box(height // 2, 0, height - height // 2, (width + 1) // 2)
    return [Box(0, 0, height, width), low, Box(height - 1, width - 1, 1, 1)]


@SETTINGS
def test_the_adjoint_of_every_step_is_its_adjoint(layer: str) -> None:
    """<a, W x> = <W^T a, x> for what lies in a box, and W^T a lies where the box is said to depend on."""
    graph = trace(between(LAYERS[layer](), F64))
    generator = torch.Generator().manual_seed(2)
    for k, node in enumerate(graph.nodes):
        if not k or not isinstance(node.op, Affine):
            continue
        shapes = [graph.nodes[j].shape for j in node.inputs]
        x = [torch.randn(3, *shape, generator=generator, dtype=F64) for shape in shapes]
        for box in _boxes(graph, k):
            a = torch.randn(3, node.shape[0], box.height, box.width, generator=generator, dtype=F64)
            parts = node.op.adjoint(a, box)
            assert [at for _, at in parts] == list(node.op.sources(box)) or box.height * box.width == 1
            found = sum((part * at.of(v)).sum() for (part, at), v in zip(parts, x, strict=True))
            torch.testing.assert_close(found, (a * box.of(node.op.apply(*x))).sum())


@SETTINGS
@pytest.mark.parametrize("norm", BALLS)
def test_values_within_a_ball_stay_within_their_bounds_and_change_no_faster_than_said(layer: str, norm: Norm) -> None:
    classifier = between(LAYERS[layer]())
    graph, images = trace(classifier), images_for(classifier, 3)
    x = images.pixels.double()
    eps = 0.05 * norm.size(torch.maximum(x, 1 - x))
    moved = steps_within(norm, eps, images, 20).flatten(0, 1)
    ball = InputBall(norm, x, eps)
    values, clean = evaluated(graph, moved), evaluated(graph, x)
    constants = value_constants(graph, layer_constants(graph, norm), norm)
    far = norm.size(moved.double() - x.repeat(20, 1, 1, 1))
    for tighten in (None, refined(graph, ball, 10**9)):
        for value, here in zip(values, propagated(graph, ball, tighten), strict=True):
            value = value.unflatten(0, (20, -1))
            assert (value >= here.interval.lower).all()
            assert (value <= here.interval.upper).all()
    for value, at, constant in zip(values, clean, constants, strict=True):
        assert (norm.size(value - at.repeat(20, 1, 1, 1)) <= constant * far * (1 + 1e-9) + 1e-12).all()


@SETTINGS
def test_no_proof_is_refuted(layer: str) -> None:
    classifier = between(LAYERS[layer]())
    images = images_for(classifier, 3)
    found = {name: proven(name, Norm.LINF, classifier, images) for name in ("ibp", "crown", "lipschitz")}
    assert (found["crown"] >= found["ibp"]).all()
    for radius in found.values():
        assert (radius > 0).any()
        moved = steps_within(Norm.LINF, radius, images, 40)
        assert (classifier.predict(moved.flatten(0, 1)).argmax(1).view(40, -1) == images.labels).all()


@pytest.mark.parametrize("kind", ["exported", "traced"])
@SETTINGS
@pytest.mark.filterwarnings("ignore")
def test_programs_have_the_same_graphs(layer: str, kind: str, tmp_path: Path) -> None:
    """torch.export and TorchScript name the same steps by other operators."""
    own = between(LAYERS[layer]())
    path = tmp_path / SAVED[kind][0]
    SAVED[kind][1](own.module.network, path)  # type: ignore[arg-type]
    opened = open_checkpoint(path, input_shape=SHAPE, trusted=(path,))
    if (layer, kind) in UNREAD:
        with pytest.raises(UnsupportedError):
            trace(opened)
        return
    pixels = candidates(5, own.input_shape)
    here, there = (evaluated(trace(classifier), pixels)[-1] for classifier in (own, opened))
    torch.testing.assert_close(there, here, rtol=1e-9, atol=1e-9)
