"""Which layer's input the features of a network are: the last torch.nn.Linear executed that leads to the logits.

Found by running the network once. The output of every Linear is cut off from what came before it, so that the graph
of the logits reaches back to the Linears that they follow from and no further: of two heads the unused one is not
there, in whatever order they were registered or called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robusteval.core.errors import UnsupportedError

_PRODUCTS = {
    "Convolution": "a convolution",
    "Linear": "a linear layer that is no module",
    "Addmm": "a linear layer that is no module",
    "Mm": "a product of matrices",
    "Bmm": "a product of matrices",
    "Baddbmm": "a product of matrices",
    "Mv": "a product of matrices",
    "Dot": "a product of matrices",
}
"""What a layer with weights is called in the graph, without the name of the library that computes it."""
_LIBRARIES = ("Mkldnn", "Cudnn", "Miopen", "Mps", "Thnn")


@dataclass(frozen=True)
class FeatureLayer:
    """A Linear by its qualified name in the network, and which of its calls in one forward pass, from 0."""

    name: str
    call: int


def feature_layer(
    network: nn.Module, evaluate: Callable[[Tensor], Tensor], pixels: Tensor, called: str
) -> FeatureLayer:
    """The last Linear of a network that its logits for images (M, C, H, W), by `evaluate`, follow from.

    `called` names the network in errors. Raises UnsupportedError where no Linear is executed as a Python module (in
    TorchScript and exported programs none is), where the logits follow from none, and where a convolution or a product
    with other weights comes between the last one and the logits, which is then no last layer.
    """
    seen: list[tuple[FeatureLayer, Tensor]] = []

    def cut(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            leaf = output.detach().requires_grad_()
            call = sum(layer.name == name for layer, _ in seen)
            seen.append((FeatureLayer(name, call), leaf))
            return leaf.clone()

        return hook

    hooks = [m.register_forward_hook(cut(name)) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    try:
        with torch.enable_grad():
            logits = evaluate(pixels)
    except Exception as error:  # the user's code
        raise _unsupported(called, f"an error from {called}: {(str(error) or repr(error)).splitlines()[0]}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise _unsupported(called, f"{called}, which executes none")
    users = _users(logits) if isinstance(logits, Tensor) else {}
    for layer, leaf in reversed(seen):
        after = list(_after(leaf, users))
        if after:
            product = next((p for p in map(_product, after) if p), None)
            if product is not None:
                raise _unsupported(called, f"{product} after the last of them, '{layer.name}', in {called}")
            return layer
    raise _unsupported(called, f"{called}, whose logits follow from none of those that it executes")


def _unsupported(called: str, got: str) -> UnsupportedError:
    return UnsupportedError(f"expected a network that ends in torch.nn.Linear to read features from, got {got}")


def _users(logits: Tensor) -> dict[Any, list[Any]]:
    """By each node of the graph of the logits, the nodes that take what it gives."""
    users: dict[Any, list[Any]] = {}
    nodes = [logits.grad_fn] if logits.grad_fn is not None else []
    users.update((node, []) for node in nodes)
    while nodes:
        node = nodes.pop()
        for before, _ in node.next_functions:
            if before is None:
                continue
            if before not in users:
                users[before] = []
                nodes.append(before)
            users[before].append(node)
    return users


def _after(leaf: Tensor, users: dict[Any, list[Any]]) -> Iterator[Any]:
    """The nodes of the graph that follow from a leaf."""
    nodes = [node for node in users if getattr(node, "variable", None) is leaf]
    found = set(nodes)
    while nodes:
        node = nodes.pop()
        yield node
        new = [user for user in users[node] if user not in found]
        found.update(new)
        nodes += new


def _product(node: Any) -> str | None:
    kind = node.name().removesuffix("0").removesuffix("Backward")
    for library in _LIBRARIES:
        kind = kind.removeprefix(library)
    return _PRODUCTS.get(kind)
