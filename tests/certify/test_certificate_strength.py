"""Every certificate comes as close to the exact distance as its case demands, and one that does nothing does not."""

from __future__ import annotations

import pytest
import torch

from certificate_cases import CASES, CERTIFICATE_CASES, case_of, certified_part, strong
from robusteval.certify import CERTIFICATES
from robusteval.certify.base import Certificate, Radii, State
from robusteval.core.images import Images
from robusteval.core.methods import Guarantee
from robusteval.core.norms import Norm
from robusteval.core.streams import Streams
from robusteval.models.classifier import Classifier


class Nothing(Certificate):
    """Certifies nothing."""

    name = "nothing"
    title = "Nothing"
    summary = "no certificate at all"
    kind = Guarantee.PROOF

    def radii(self, classifier: Classifier, images: Images, state: State, streams: Streams) -> Radii:
        none = torch.zeros(len(images), dtype=torch.float64)
        return Radii(none, images.labels, none.bool())


@pytest.mark.parametrize("name", CERTIFICATES)
def test_every_certificate_has_a_case(name: str) -> None:
    assert 0 < case_of(name).must < 1


def test_every_case_is_of_a_certificate() -> None:
    assert CERTIFICATE_CASES.keys() <= CERTIFICATES.keys()


@pytest.mark.parametrize(("name", "norm"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_certificate_comes_as_close_as_its_case_demands(name: str, norm: Norm, seed: int) -> None:
    """And, on an affine model, in the median not beyond the exact distance, but for the rounding of logits."""
    assert case_of(name).must <= certified_part(strong(name, norm), seed) <= 1 + 1e-6


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_certificate_of_radius_zero_fails_every_case(name: str, norm: Norm) -> None:
    assert certified_part(Nothing(norm=norm), 0) < case_of(name).must


def test_a_certificate_without_a_case_is_told_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"entry for 'mine' in CERTIFICATE_CASES of tests/certificate_cases\.py"):
        case_of("mine")
