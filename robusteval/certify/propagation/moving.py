"""Steps of a program that only move the entries of values: which they are, and what moves where."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from robusteval.certify.propagation.gathering import Gather, gathered

_OF = torch.ops.aten
_NAMES = (
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "adjoint", "flip", "fliplr", "flipud"),
    *("roll", "rot90", "narrow", "select", "index_select", "chunk", "split", "tensor_split", "unbind", "hsplit"),
    *("vsplit", "repeat", "expand", "expand_as", "tile", "repeat_interleave", "diagonal", "unfold", "t", "ravel"),
    *("swapdims_", "transpose_", "broadcast_to", "split_with_sizes", "select_copy"),
)
_FUNCTIONS = ("pad", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "unfold", "upsample_nearest")
_OVERLOADS = (
    *(
        "permute.default",
        "transpose.int",
        "t.default",
        "movedim.int",
        "movedim.intlist",
        "flip.default",
        "roll.default",
    ),
    *("narrow.default", "select.int", "index_select.default", "chunk.default", "split.Tensor", "split.sizes"),
    *("split_with_sizes.default", "tensor_split.sections", "tensor_split.indices", "unbind.int", "repeat.default"),
    *("expand.default", "slice.Tensor", "index.Tensor", "pad.default", "constant_pad_nd.default", "tile.default"),
    *("reflection_pad1d.default", "reflection_pad2d.default", "replication_pad1d.default", "rot90.default"),
    *("replication_pad2d.default", "pixel_shuffle.default", "pixel_unshuffle.default", "channel_shuffle.default"),
    *("repeat_interleave.self_int", "upsample_nearest2d.vec", "upsample_nearest1d.vec", "swapaxes.default"),
    *("upsample_nearest2d.default", "upsample_nearest1d.default", "im2col.default", "numpy_T.default", "mT.default"),
)
MOVES: tuple[object, ...] = (
    *_NAMES,
    *(getattr(torch, name) for name in _NAMES if hasattr(torch, name)),
    *(getattr(functional, name) for name in _FUNCTIONS),
    *(getattr(getattr(_OF, name.split(".")[0]), name.split(".")[1]) for name in _OVERLOADS),
    operator.getitem,
)
MOVING_MODULES = (
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d),
    *(nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Unfold),
)
_NEAREST = (functional.interpolate, functional.upsample)
_SIDES = ("T", "mT", "H", "mH")


def moves(node: fx.Node, program: fx.GraphModule) -> bool:
    """Whether a step may only move entries."""
    if node.op == "call_module":
        module = program.get_submodule(str(node.target))
        return type(module) in MOVING_MODULES or (type(module) is nn.Upsample and module.mode == "nearest")
    if node.target in _NEAREST:
        return node.kwargs.get("mode", "nearest") == "nearest" and len(node.args) < 4
    if node.target is getattr:
        return node.args[1] in _SIDES
    return node.target in MOVES


def movements(node: fx.Node, program: fx.GraphModule, value: fx.Node) -> list[Gather] | None:
    """What a step does to a value, one for each tensor that it gives. None where it does more than to move entries of
    that one value."""
    meta = value.meta["tensor_meta"]
    sizes = meta.shape[1:]
    if any(other is not value and not _is_known(other) for other in node.all_input_nodes):
        return None
    found: list[Gather] = []
    for k in range(len(_outcomes(node, program, value, torch.zeros(2, *sizes, dtype=torch.float64)))):

        def one(x: Tensor, k: int = k) -> Tensor:
            return _outcomes(node, program, value, x)[k]

        op = gathered(one, sizes, meta.dtype)
        if op is None:
            return None
        found.append(op)
    return found


def _is_known(node: fx.Node) -> bool:
    return "constant" in node.meta or "size" in node.meta


def _outcomes(node: fx.Node, program: fx.GraphModule, value: fx.Node, x: Tensor) -> Sequence[Tensor]:
    """What a step gives for x in the place of a value."""

    def given(other: fx.Node) -> Any:
        return x if other is value else other.meta.get("constant", other.meta.get("size"))

    args: Any = fx.node.map_arg(node.args, given)
    kwargs: Any = fx.node.map_arg(node.kwargs, given)
    if node.op == "call_module":
        result = program.get_submodule(str(node.target))(*args, **kwargs)
    elif node.op == "call_method":
        result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    else:
        result = node.target(*args, **kwargs)  # type: ignore[operator]
    return [result] if isinstance(result, Tensor) else list(result)
