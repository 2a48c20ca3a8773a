"""The fingerprint is that of what computes: weights, code, graph and configuration; and of nothing else."""

from __future__ import annotations

import copy
import functools
import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from robusteval.models.architectures import ARCHITECTURES
from robusteval.models.checkpoints import open_checkpoint
from robusteval.models.classifier import Classifier
from robusteval.models.making import make_classifier

SHAPE = (1, 4, 4)


def classifier(net: nn.Module) -> Classifier:
    return make_classifier("net", net, SHAPE)


def stack(*between: nn.Module) -> nn.Sequential:
    """Equal weights whatever lies between them."""
    torch.manual_seed(0)
    first, last = nn.Linear(16, 8), nn.Linear(8, 3)
    return nn.Sequential(nn.Flatten(), first, *between, last)


def convolution(**settings: object) -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 3, 3, **settings)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Front(nn.Module):
    def __init__(self, act: object, net: nn.Module) -> None:
        super().__init__()
        self.act, self.net = act, net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.act(x))  # type: ignore[operator]
        return logits


def front(act: object) -> Front:
    return Front(act, stack())


def power(exponent: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x**exponent


def helped(x: Tensor) -> Tensor:
    return HELPERS["clip"](x)


def clip(x: Tensor) -> Tensor:
    return x.clamp(0, LIMIT)


LIMIT = 0.75
HELPERS = {"clip": clip}


def shared(twice: bool) -> nn.Sequential:
    torch.manual_seed(0)
    one = nn.Linear(16, 16)
    return nn.Sequential(nn.Flatten(), one, one if twice else copy.deepcopy(one), nn.Linear(16, 3))


def hooked(hook: Callable[..., Tensor]) -> nn.Module:
    net = stack()
    net[1].register_forward_hook(hook)
    return net


def patched(forward: Callable[[Tensor], Tensor]) -> nn.Module:
    net = stack(nn.ReLU())
    net[2].forward = forward
    return net


def constant(value: float) -> nn.Module:
    net = front(torch.sigmoid)
    net.act = functools.partial(torch.mul, other=torch.tensor(value))
    return net


def limited(most: float) -> nn.Module:
    return front(functools.partial(torch.clamp, max=most))


def symbolic(net: nn.Module) -> nn.Module:
    program: nn.Module = torch.fx.symbolic_trace(net)
    return program


def scripted(net: nn.Module) -> nn.Module:
    program: nn.Module = torch.jit.script(net)
    return program


def traced(net: nn.Module) -> nn.Module:
    program: nn.Module = torch.jit.trace(net.eval(), torch.rand(2, *SHAPE))
    return program


def exported(net: nn.Module) -> nn.Module:
    shapes = ({0: torch.export.Dim("batch")},)
    program: nn.Module = torch.export.export(net.eval(), (torch.rand(2, *SHAPE),), dynamic_shapes=shapes).module()
    program.train = lambda mode=True: program  # type: ignore[method-assign]
    program.eval = lambda: program  # type: ignore[method-assign]
    return program


OTHERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "a layer": (lambda: stack(nn.ReLU()), lambda: stack(nn.Tanh())),
    "the order of layers": (lambda: stack(nn.ReLU(), nn.Tanh()), lambda: stack(nn.Tanh(), nn.ReLU())),
    "a slope": (lambda: stack(nn.LeakyReLU(0.1)), lambda: stack(nn.LeakyReLU(0.2))),
    "eps": (lambda: stack(nn.LayerNorm(8)), lambda: stack(nn.LayerNorm(8, eps=0.1))),
    "stride": (convolution, lambda: convolution(stride=2)),
    "padding": (convolution, lambda: convolution(padding=1)),
    "padding mode": (lambda: convolution(padding=1), lambda: convolution(padding=1, padding_mode="circular")),
    "a function": (lambda: front(functional.relu), lambda: front(functional.gelu)),
    "a built-in function": (lambda: front(torch.sigmoid), lambda: front(torch.tanh)),
    "two lambdas of one line": (lambda: front(lambda x: x + 1), lambda: front(lambda x: x + 2)),
    "what a function closes over": (lambda: front(power(1.0)), lambda: front(power(2.0))),
    "a partial": (lambda: limited(0.5), lambda: limited(0.7)),
    "a tensor that is no buffer": (lambda: constant(0.5), lambda: constant(0.7)),
    "a shared module": (lambda: shared(True), lambda: shared(False)),
    "a hook": (stack, lambda: hooked(lambda m, i, o: -o)),
    "another hook": (lambda: hooked(lambda m, i, o: o + 1), lambda: hooked(lambda m, i, o: o + 2)),
    "a patched forward": (lambda: patched(lambda x: x + 1), lambda: patched(lambda x: x + 2)),
    "TorchScript, a layer": (lambda: scripted(stack(nn.ReLU())), lambda: scripted(stack(nn.Tanh()))),
    "TorchScript, a slope": (lambda: scripted(stack(nn.LeakyReLU(0.1))), lambda: scripted(stack(nn.LeakyReLU(0.2)))),
    "TorchScript, traced": (lambda: traced(stack(nn.ReLU())), lambda: traced(stack(nn.Tanh()))),
    "torch.export": (lambda: exported(stack(nn.ReLU())), lambda: exported(stack(nn.Tanh()))),
    "torch.fx": (lambda: symbolic(front(torch.relu)), lambda: symbolic(front(torch.tanh))),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("one", "other"), OTHERS.values(), ids=OTHERS)
def test_what_computes_otherwise_with_equal_weights_has_another(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module]
) -> None:
    first, again, second = classifier(one()), classifier(one()), classifier(other())
    assert first.fingerprint == again.fingerprint, "made twice"
    assert first.fingerprint != second.fingerprint
    assert first.weights == again.weights


@pytest.mark.parametrize("name", ["LIMIT", "HELPERS"])
def test_globals_that_the_code_names_count(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = classifier(front(helped)).fingerprint
    other = {"LIMIT": 0.5, "HELPERS": {"clip": torch.tanh}}[name]
    monkeypatch.setitem(globals(), name, other)
    assert classifier(front(helped)).fingerprint != before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("values", [1.0, 2.0])
def test_constants_and_attributes_of_torchscript_count(values: float) -> None:
    class Scaled(nn.Module):
        def __init__(self, a: float, b: float) -> None:
            super().__init__()
            self.net, self.scale, self.shift = stack(), a, torch.tensor([b])

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.net(x) * self.scale + self.shift
            return logits

    seen = {classifier(scripted(Scaled(a, b))).fingerprint for a in (3.0, values) for b in (4.0, values)}
    assert len(seen) == 4
    frozen = {classifier(torch.jit.freeze(scripted(Scaled(a, 1.0)).eval())).fingerprint for a in (3.0, values)}
    assert len(frozen) == 2


class Remembering(nn.Module):
    """Counts its calls and keeps what it saw: state, which the next forward pass overwrites."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = stack(), 0
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.net(x)
        return self.last


def test_a_used_network_is_the_same_as_a_fresh_one() -> None:
    net = Remembering()
    fresh = classifier(net).fingerprint
    with torch.no_grad():
        net(torch.rand(5, *SHAPE))
    assert classifier(net).fingerprint == fresh


def test_type_memory_layout_mode_and_gradients_do_not_count() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    one = classifier(net).fingerprint
    laid_out = copy.deepcopy(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert classifier(laid_out).fingerprint == one
    assert classifier(copy.deepcopy(net).eval().requires_grad_(False)).fingerprint == one
    assert classifier(copy.deepcopy(net).double()).fingerprint == one
    model = classifier(net)
    assert model.to("cpu", torch.float64).fingerprint == one
    with torch.no_grad():
        net.get_buffer("1.running_mean").add_(1)
    assert classifier(net).weights != model.weights


def test_an_object_that_cannot_be_looked_at_is_no_error() -> None:
    class Hostile:
        @property
        def __dict__(self) -> dict[str, object]:  # type: ignore[override]
            raise RuntimeError("no")

    net = front(torch.sigmoid)
    net.extra = Hostile()  # type: ignore[assignment]
    assert classifier(net).fingerprint


NETWORK = """
import torch
from torch import nn

SCALE = 2.0

def activation(x):
    return torch.relu(x) * SCALE

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.options = {"a", "b", "c", "d"}
        self.layer = nn.Linear(16, 3)

    def forward(self, x):
        return self.layer(activation(x.flatten(1)))

def build():
    return Net()
"""
EDITS: dict[str, tuple[str, str, bool]] = {
    "forward": ("self.layer(activation", "-self.layer(activation", True),
    "a function that it calls": ("torch.relu(x)", "torch.tanh(x)", True),
    "a constant": ("SCALE = 2.0", "SCALE = 3.0", True),
    "a comment": ("    def forward", "    # A comment.\n    def forward", False),
}


def weights(path: Path) -> Path:
    torch.manual_seed(0)
    state = nn.Linear(16, 3).state_dict()
    save_file({f"layer.{key}": value for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize(("old", "new", "differs"), EDITS.values(), ids=EDITS)
def test_an_edit_of_the_file_that_builds_the_network(tmp_path: Path, old: str, new: str, differs: bool) -> None:
    file, at = weights(tmp_path / "w.safetensors"), tmp_path / "net.py"
    found = []
    for text in (NETWORK, NETWORK.replace(old, new), NETWORK):
        at.write_text(text)
        found.append(open_checkpoint(file, f"{at}:build", input_shape=SHAPE))
    assert (found[1].fingerprint != found[0].fingerprint) == differs
    assert found[2].fingerprint == found[0].fingerprint
    assert found[1].weights == found[0].weights


def test_a_module_of_the_users_that_the_file_imports_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file, at, beside = weights(tmp_path / "w.safetensors"), tmp_path / "net.py", tmp_path / "act_beside.py"
    at.write_text(NETWORK.replace("def activation(x):\n    return torch.relu(x) * SCALE", "import act_beside").replace(
        "activation(x", "act_beside.activation(x"))  # fmt: skip
    seen = set()
    for function in ("relu", "tanh"):
        beside.write_text(f"import torch\n\ndef activation(x):\n    return torch.{function}(x)  # {function * 2}\n")
        for name in ("act_beside", *(n for n in sys.modules if n.startswith("robusteval_user_net"))):
            sys.modules.pop(name, None)
        seen.add(open_checkpoint(file, f"{at}:build", input_shape=SHAPE).fingerprint)
    assert len(seen) == 2


def test_a_file_that_was_edited_after_it_was_loaded_is_not_taken_for_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    at = tmp_path / "edited_later.py"
    edited = NETWORK.replace("self.layer(activation", "-self.layer(activation")

    def loaded() -> Callable[[], nn.Module]:
        monkeypatch.delitem(sys.modules, "edited_later", raising=False)
        importlib.invalidate_caches()
        build: Callable[[], nn.Module] = importlib.import_module("edited_later").build
        return build

    def known(build: Callable[[], nn.Module]) -> str:
        torch.manual_seed(0)
        return classifier(build()).fingerprint

    at.write_text(NETWORK)
    first = loaded()
    at.write_text(edited)
    stale = known(first)
    assert known(loaded()) != stale


def test_weights_of_layers_that_are_not_registered_count() -> None:
    def net(seed: int) -> nn.Module:
        made = front(lambda x: x)
        torch.manual_seed(seed)
        made.hidden = [nn.Linear(2, 2)]  # type: ignore[assignment]
        return made

    assert classifier(net(0)).fingerprint == classifier(net(0)).fingerprint != classifier(net(1)).fingerprint


def test_it_is_the_same_in_another_process_folder_and_hash_seed(tmp_path: Path) -> None:
    found = set()
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        file, at = weights(folder / "w.safetensors"), folder / "net.py"
        at.write_text(NETWORK)
        code = (
            "from robusteval.models.checkpoints import open_checkpoint\n"
            f"print(open_checkpoint({str(file)!r}, {f'{at}:build'!r}, input_shape={SHAPE}).fingerprint)"
        )
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        found.add(
            subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        )
    assert len(found) == 1


def test_a_class_without_source_counts_by_its_bytecode() -> None:
    seen = []
    for sign in ("", "", "-"):
        space: dict[str, type[nn.Module]] = {}
        text = f"""
            class Typed(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.layer = torch.nn.Linear(16, 3)
                def forward(self, x):
                    return {sign}self.layer(x.flatten(1))
        """
        exec(textwrap.dedent(text), {"torch": torch, "__name__": "__main__"}, space)
        torch.manual_seed(0)
        seen.append(classifier(space["Typed"]()).fingerprint)
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("name", ["digits-cnn", "resnet18", "cnn7-bn-mnist"])
def test_built_in_architectures_are_told_apart_and_stay(name: str) -> None:
    built, seen = ARCHITECTURES[name], set()
    for _ in range(2):
        torch.manual_seed(0)
        seen.add(make_classifier(name, built.network(), built.input_shape).fingerprint)
    assert len(seen) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_same_file_of_a_program_opened_twice(tmp_path: Path) -> None:
    path, other = tmp_path / "a.ts", tmp_path / "b.pt2"
    torch.jit.save(scripted(stack(nn.ReLU(), nn.Dropout())), path)
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(stack(nn.ReLU()), (torch.rand(2, *SHAPE),), dynamic_shapes=shapes), other)
    for file in (path, other):
        assert len({open_checkpoint(file, input_shape=SHAPE, trusted=(file,)).fingerprint for _ in range(2)}) == 1
