"""The training loop: batches, updates, epochs; saved after each epoch and continued to the same weights."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robusteval.core.errors import UserError
from robusteval.core.images import Images
from robusteval.defenses.base import Batch, Carried, Defense, losses
from robusteval.training.augment import augmented
from robusteval.training.checks import check_augmentation, check_finite, check_passes
from robusteval.training.saved import SavedTraining
from robusteval.training.settings import Scheduler, TrainingSettings


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Losses are means; the validation's are NaN without one."""

    loss: float
    """Of the objective."""
    accuracy: float
    """Of the first pass of each update, before that update."""
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Tick:
    """How far a training is: updates done and to do, and the running loss and accuracy of its epoch."""

    done: int
    total: int
    epoch: int
    loss: float
    accuracy: float


@dataclass
class _Course:
    """All that changes while a network is trained, but for the network itself."""

    optimizer: torch.optim.Optimizer
    schedule: Scheduler
    generator: torch.Generator
    state: Carried
    history: list[Epoch]
    best: dict[str, Any] | None = None

    def saved(self, network: nn.Module) -> dict[str, Any]:
        on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "network": network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "global": [torch.get_rng_state(), *on_gpu],
            "state": dict(self.state),
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
        }

    def restore(self, network: nn.Module, saved: dict[str, Any]) -> None:
        device = next(network.parameters()).device
        network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["global"][0])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["global"][1:])
        # Counters stay on the CPU, where the defense made them.
        made = {name: value.device for name, value in self.state.items()}
        self.state = {name: value.to(made.get(name, device)) for name, value in saved["state"].items()}
        self.history = [Epoch(**epoch) for epoch in saved["history"]]
        self.best = saved["best"]


def train(
    network: nn.Module,
    images: Images,
    defense: Defense,
    settings: TrainingSettings,
    *,
    saved: SavedTraining | None = None,
    tell: Callable[[Tick], None] = lambda tick: None,
) -> list[Epoch]:
    """Train a network in place, on the device where it is; what each epoch came to. It is left in eval mode.

    `network` takes pixels (N, C, H, W) in [0, 1]. With a validation share, the weights of the epoch of the least
    validation loss are kept. Depends on the network with its initial weights, the images, the settings and their seed,
    and on a CPU on the number of threads: nothing else. `saved` is read first and written after every epoch: a training
    that was killed continues to the same weights, bit for bit, on a CPU. Raises UserError where the loss or a weight
    stops being finite, and what was saved is removed; UnsupportedError where the network does not suit the defense.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(images), generator=generator)
    held_out = round(settings.validation * len(images))
    if held_out == len(images) or (settings.validation and not held_out):
        raise UserError(f"expected images on both sides of --validation {settings.validation:g}, got {len(images)}")
    validation, training = images.select(order[:held_out]), images.select(order[held_out:])
    check_augmentation(images, settings)
    optimizer = settings.make_optimizer(network)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        network.train()
        check_passes(network, training.pixels[: len(_parts(training, settings, torch.Generator())[-1])].to(device))
        # What a network draws by itself, such as dropout.
        torch.manual_seed(settings.seed)
        state = defense.begin(network, training.pixels.to(device), generator)
        course = _Course(optimizer, settings.make_schedule(optimizer), generator, state, [])
        if saved and (content := saved.read()):
            course.restore(network, content)
        while len(course.history) < settings.epochs:
            try:
                course.history.append(_epoch(network, training, validation, defense, settings, course, tell))
            except UserError:
                # It would end the same way again, and no other settings may continue it.
                if saved:
                    saved.remove()
                raise
            if saved:
                saved.write(course.saved(network))
    if course.best is not None:
        network.load_state_dict(course.best["network"])
    network.eval()
    return course.history


def _epoch(
    network: nn.Module,
    images: Images,
    validation: Images,
    defense: Defense,
    settings: TrainingSettings,
    course: _Course,
    tell: Callable[[Tick], None],
) -> Epoch:
    began, rate = time.monotonic(), course.optimizer.param_groups[0]["lr"]
    device = next(network.parameters()).device
    parts = _parts(images, settings, course.generator)
    at = len(course.history)
    tick = Tick(at * len(parts) * defense.updates, settings.epochs * len(parts) * defense.updates, at + 1, 0.0, 0.0)
    total, right, seen = 0.0, 0.0, 0
    network.train()
    with _FirstLogits(network) as first:
        for rows in parts:
            pixels = augmented(images.pixels[rows].to(device), settings, course.generator)
            batch = Batch(pixels, images.labels[rows].to(device), course.generator)
            for _ in range(defense.updates):
                first.logits = None
                course.optimizer.zero_grad(set_to_none=True)
                loss, course.state = defense.backward(network, batch, course.state)
                course.optimizer.step()
                seen += len(rows)
                total += float(loss) * len(rows)
                right += first.right(batch.labels)
                tick = replace(tick, done=tick.done + 1, loss=total / seen, accuracy=right / seen)
                tell(tick)
            check_finite("a finite loss", float(loss), at + 1)
    check_finite("finite weights", _sum_of_weights(network), at + 1)
    held = _validate(network, validation, min(settings.batch_size, len(images)))
    if len(validation):
        check_finite("a finite validation loss", held[0], at + 1)
    if len(validation) and (course.best is None or held[0] < course.best["loss"]):
        weights = copy.deepcopy(network.state_dict())
        course.best = {"loss": held[0], "epoch": at + 1, "network": weights}
    if isinstance(course.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
        course.schedule.step(held[0])
    else:
        course.schedule.step()
    return Epoch(tick.loss, tick.accuracy, *held, rate, time.monotonic() - began)


def _sum_of_weights(network: nn.Module) -> float:
    """Of the buffers too, such as running statistics: finite where all are."""
    return float(sum(v.double().sum() for v in network.state_dict().values() if v.is_floating_point()))


def _parts(images: Images, settings: TrainingSettings, generator: torch.Generator) -> list[Tensor]:
    """The images of each batch of an epoch. A single one that is left over joins the batch before it: batch
    normalisation cannot standardise one image."""
    size = min(settings.batch_size, len(images))
    parts = list(torch.randperm(len(images), generator=generator).split(size))
    if size > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


class _FirstLogits:
    """The logits of the first pass of each update: accuracy at no further pass."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.logits: Tensor | None = None

    def __enter__(self) -> _FirstLogits:
        self.hook = self.network.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def right(self, labels: Tensor) -> float:
        """How many of the images the first pass had right; of several copies, the first."""
        if self.logits is None:
            return float("nan")
        return float((self.logits[: len(labels)].argmax(1) == labels).sum())

    def _keep(self, _module: nn.Module, _inputs: object, logits: Tensor) -> None:
        if self.logits is None:
            self.logits = logits.detach()


def _validate(network: nn.Module, images: Images, batch_size: int) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in eval mode; NaN without images."""
    if not len(images):
        return float("nan"), float("nan")
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(part.to(device)) for part in images.pixels.split(batch_size)]).cpu()
    right = (logits.argmax(1) == images.labels).double().mean()
    return float(losses(logits, images.labels).mean()), float(right)
