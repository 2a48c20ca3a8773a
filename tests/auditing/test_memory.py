"""Certificates work through images in batches: their peak memory does not grow with the number of images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROBE = """
import resource, sys
sys.path.insert(0, "tests")
import torch
from torch import nn
from certificate_cases import CASES, run, small
from robusteval import Images
from robusteval.models.making import make_classifier

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 3))
classifier = make_classifier("small", network, (1, 28, 28))
pixels = torch.rand(400, 1, 28, 28)
ids = tuple(f"{i:04d}" for i in range(400))
everything = Images(ids, pixels, classifier.predict(pixels).argmax(1))
for count in (40, 400):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, norm in dict(CASES).items():
        run(small(name, norm), classifier, everything.select(torch.arange(count)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) / 1024)
"""


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_images() -> None:
    """400 images are 1 MiB; 100 noisy copies of each would be 110 MiB more than of 40, slopes at 60 points 140."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 40
