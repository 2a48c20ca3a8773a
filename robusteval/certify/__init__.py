"""Lower bounds of the minimum adversarial distance, one file a method."""

from __future__ import annotations

from robusteval.certify.base import Certificate
from robusteval.certify.clever import Clever
from robusteval.certify.crown import CROWN
from robusteval.certify.ibp import IBP
from robusteval.certify.l_bound import LBound
from robusteval.certify.lipschitz import Lipschitz
from robusteval.certify.omega_bound import OmegaBound
from robusteval.certify.smoothing import Smoothing
from robusteval.certify.smoothing_envelope import SmoothingEnvelope
from robusteval.certify.smoothing_sequential import SmoothingSequential

_ALL: tuple[type[Certificate], ...] = (
    Clever,
    CROWN,
    IBP,
    LBound,
    Lipschitz,
    OmegaBound,
    Smoothing,
    SmoothingEnvelope,
    SmoothingSequential,
)
CERTIFICATES: dict[str, type[Certificate]] = {certificate.name: certificate for certificate in _ALL}
