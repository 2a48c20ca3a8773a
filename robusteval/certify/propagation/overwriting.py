"""Steps of a program that write into a value: later readers of that memory read what was written, or it is refused.

A step in place gives its first argument back, changed. A later use of the value that it overwrote, which is the same
tensor under another name, is read as the result. A later use of another view of that memory (a reshape, a detached
tensor) is refused by name: what it holds depends on the layout of the memory, which another batch may have otherwise.
"""

from __future__ import annotations

import torch
from torch import fx

from robusteval.certify.propagation.program import READ_OFF
from robusteval.core.errors import UnsupportedError

_OF = torch.ops.aten
VIEWS = (
    *("contiguous", "detach", _OF.contiguous.default, _OF.detach.default),
    *(_OF.alias.default, _OF.lift_fresh_copy.default),
)
"""Methods and operators that may give a tensor over the same memory."""


class Memory:
    """Which values of a program may lie in the same memory, and which of them are one tensor."""

    def __init__(self) -> None:
        self.of: dict[fx.Node, fx.Node] = {}
        """The first value that may lie where a value lies."""
        self.tensor: dict[fx.Node, fx.Node] = {}
        """The first value that is the same tensor for certain."""

    def note(self, node: fx.Node, *, view: bool) -> None:
        """A new value; `view`: whether it may lie in the memory of its first argument."""
        source = node.args[0] if node.args else node.kwargs.get("input")
        shares = isinstance(source, fx.Node) and source in self.of and (view or source in node.meta["again"])
        known = isinstance(source, fx.Node) and source in node.meta["again"] and node.target not in VIEWS and not view
        self.of[node] = self.of[source] if shares and isinstance(source, fx.Node) else node
        self.tensor[node] = self.tensor[source] if known and isinstance(source, fx.Node) else node

    def overwritten(self, node: fx.Node) -> list[fx.Node]:
        """The values that are read after a step that writes, and are its result then. Raises UnsupportedError for one
        that may or may not have changed."""
        written: list[fx.Node] = node.meta["written"]
        if not written:
            return []
        target = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(target, fx.Node) or target not in written or target not in node.meta["again"]:
            raise _refused(node, f"writes into '{written[0].name}' besides what it gives back")
        if any(other.op in ("placeholder", "get_attr") for other in (self.of.get(target, target), *written)):
            raise _refused(node, "writes into the image or into a constant")
        order = {other: i for i, other in enumerate(node.graph.nodes)}
        touched = {*written, *(other for other, first in self.of.items() if first is self.of[target])} - {node}
        later = [other for other in touched if any(order[user] > order[node] for user in _readers(other))]
        for other in later:
            if self.tensor.get(other) is not self.tensor[node]:
                raise _refused(node, f"writes into memory that '{other.name}' shares, which is used again")
        return later


def _readers(node: fx.Node) -> list[fx.Node]:
    """The steps that take the numbers of a value, not its shape alone."""
    return [user for user in node.users if user.meta["kind"] not in READ_OFF]


def _refused(node: fx.Node, what: str) -> UnsupportedError:
    name = str(node.target) if node.op == "call_module" else node.name
    return UnsupportedError(
        f"expected no operation in place on a value that is used again, got '{name}', which {what}; "
        "write it without inplace=True, a trailing underscore or +="
    )
