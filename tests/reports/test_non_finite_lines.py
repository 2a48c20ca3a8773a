"""A report says how many answers were not finite, where they count."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robusteval.auditing.protocol import parse_protocol
from robusteval.auditing.session import run_audit
from robusteval.core.images import Images
from robusteval.models.making import make_classifier
from robusteval.reports import write_report
from robusteval.reports.certification.page import write_certification

METHODS = {
    "certificates": [{"method": "smoothing", "sigma": 0.1, "n0": 4, "n": 20}],
    "metrics": [{"method": "noise", "sigmas": [0.1], "samples": 2}],
}


class Gamma(nn.Module):
    """NaN where the pixel is negative, always where it is `lost`."""

    def __init__(self, lost: bool) -> None:
        super().__init__()
        self.shift = -10.0 if lost else 10.0

    def forward(self, pixels: Tensor) -> Tensor:
        bright = (pixels.flatten(1)[:, 0] + self.shift * (pixels.flatten(1)[:, 0] != 0.5)) ** 0.5
        return torch.stack([bright, 1 + bright], dim=1)


@pytest.mark.parametrize("lost", [True, False])
def test_the_report_counts_them(tmp_path: Path, lost: bool) -> None:
    classifier = make_classifier("gamma", Gamma(lost), (1, 1, 1))
    images = Images(("a", "b", "c"), torch.full((3, 1, 1, 1), 0.5), torch.ones(3, dtype=torch.int64), source="made")
    run = run_audit(classifier, images, parse_protocol(METHODS, "p.toml"), tmp_path, device="cpu")
    texts = {
        "report": write_report(run).with_suffix(".md").read_text(),
        "page": write_certification(run).read_text(),
    }
    # 24 samples of each image; a single copy and the first of the others.
    said = "Randomized smoothing, sigma 0.1 (confidence), L2: 72 answers of the model, on 3 images, were not finite"
    for text in texts.values():
        assert (said in text) == lost
    assert ("Gaussian noise: 6 answers of the model, on 3 images, were not finite" in texts["report"]) == lost
