"""Programs of torch.export and TorchScript: opening one runs what it holds, so only those that the user trusts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from robusteval.core.errors import UserError, first_line
from robusteval.core.user_code import NotPermittedError
from robusteval.files.contents import Program


def open_program(path: Path, program: Program, trusted: Collection[str | Path]) -> nn.Module:
    """The network of a program. Raises NotPermittedError where `trusted` does not name this very file, before
    anything of it is opened."""
    if path.resolve() not in {Path(named).resolve() for named in trusted}:
        raise NotPermittedError(
            f"expected weights in {path}, got {program.what}, which can run code and read and write files as soon as "
            f"it is opened; save its weights as .safetensors and name the network with --arch, or, if you trust where "
            f"it comes from: --trust {path}"
        )
    return _exported(path) if program.exported else _torchscript(path)


def _torchscript(path: Path) -> nn.Module:
    try:
        program: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise UserError(f"expected a TorchScript program in {path}, got: {first_line(error)}") from error
    return program


class _Exported(nn.Module):
    """A torch.export program, which was exported in eval mode and refuses to be told so again."""

    def __init__(self, program: nn.Module, path: Path) -> None:
        super().__init__()
        self.program, self.path = program, path

    def train(self, mode: bool = True) -> _Exported:
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.program(x)
        return logits


def _exported(path: Path) -> nn.Module:
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise UserError(f"expected a torch.export program in {path}, got: {first_line(error)}") from error
    if not program.range_constraints:
        raise UserError(
            f"expected a program with a dynamic batch dimension in {path}, got fixed sizes; export it with "
            f"dynamic_shapes=({{0: torch.export.Dim('batch')}},)"
        )
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    return _plain_graph(module) or _Exported(module, path)


def _plain_graph(program: fx.GraphModule) -> fx.GraphModule | None:
    """The operators of a torch.export program as a graph of torch.fx that proofs can read, without its checks of
    shapes, which served images have passed. None where it takes or gives more than one tensor."""
    for node in program.graph.find_nodes(op="call_module", target="_guards_fn"):
        program.graph.erase_node(node)
    graph = fx.Graph()
    found = graph.graph_copy(program.graph, {})
    taken = graph.find_nodes(op="placeholder")
    if len(taken) != 1 or not isinstance(found, tuple | list) or len(found) != 1:
        return None
    graph.output(found[0])
    plain = fx.GraphModule(program, graph, "Exported")
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.linear.default):
        _as_module(plain, node)
    plain.recompile()
    return plain


def _as_module(plain: fx.GraphModule, node: fx.Node) -> None:
    """A linear layer whose weights lie under one name, as the module that it was: features are read from it."""
    pixels, *weights = node.args
    names = [str(w.target) for w in weights if isinstance(w, fx.Node) and w.op == "get_attr"]
    place = names[0].removesuffix(".weight") if names else ""
    if not place or names != [f"{place}.weight", f"{place}.bias"][: len(weights)] or len(node.args) < 2:
        return
    holder = plain.get_submodule(place)
    weight = getattr(holder, "weight", None)
    if not isinstance(weight, Tensor) or set(dict(holder.named_parameters())) != {n.rpartition(".")[2] for n in names}:
        return
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], len(names) == 2)
    for name, parameter in holder.named_parameters():
        setattr(layer, name, parameter)
    plain.set_submodule(place, layer)
    node.op, node.target, node.args = "call_module", place, (pixels,)
    for w in weights:
        if isinstance(w, fx.Node) and not w.users:
            plain.graph.erase_node(w)
