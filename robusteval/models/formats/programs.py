"""Programs of torch.export and TorchScript: opening one runs what it holds, so only those that the user trusts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError, first_line
from robusteval.core.user_code import NotPermittedError
from robusteval.models.formats.contents import Program


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
    return _Exported(program.module(), path)
