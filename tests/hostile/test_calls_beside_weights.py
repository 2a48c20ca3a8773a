"""Whole weights beside a call: the file is refused, whichever way torch wrote it, and nothing is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from robusteval import UserError, open_checkpoint
from robusteval.models.architectures import build_network


class Call:
    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("place", ["value", "key", "hyper_parameters", "list", "weight"])
def test_a_call_beside_whole_weights_is_refused(tmp_path: Path, zipped: bool, protocol: int, place: str) -> None:
    weights = dict(build_network("digits-cnn").state_dict())
    canary, path = tmp_path / "canary", tmp_path / "net.pt"
    calls = {
        "system": Call(os.system, f"touch {canary}"),
        "open": Call(open, str(canary), "w"),
        "eval": Call(eval, f"open({str(canary)!r}, 'w')"),
    }
    for name, call in calls.items():
        content: dict[Any, Any] = {"state_dict": weights}
        match place:
            case "value":
                content["epoch"] = call
            case "key":
                content[("k", call)] = 1
            case "hyper_parameters":
                content["hyper_parameters"] = {"a": {"b": [call]}}
            case "list":
                content["state_dict"] = dict(weights)
                content["steps"] = [1, 2, call]
            case "weight":
                content["state_dict"] = {**weights, "conv1.bias": call}
        torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
        with pytest.raises(UserError, match="execute") as found:
            open_checkpoint(path, "digits-cnn", input_shape=(1, 8, 8))
        assert name in str(found.value)
        assert not canary.exists()
