"""Lower bounds of the minimum adversarial distance, one file a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robusteval.core.registry import Registry

if TYPE_CHECKING:
    from robusteval.certify.base import Certificate

CERTIFICATES: Registry[Certificate] = Registry(
    "certificates",
    "robusteval.certify.base:Certificate",
    {
        "beta-crown": "robusteval.certify.branching.beta_crown:BetaCROWN",
        "clever": "robusteval.certify.extreme_value.clever:Clever",
        "crown": "robusteval.certify.propagation.crown:CROWN",
        "ibp": "robusteval.certify.propagation.ibp:IBP",
        "l-bound": "robusteval.certify.extreme_value.l_bound:LBound",
        "lipschitz": "robusteval.certify.propagation.lipschitz:Lipschitz",
        "omega-bound": "robusteval.certify.extreme_value.omega_bound:OmegaBound",
        "smoothing": "robusteval.certify.smoothing.fixed:Smoothing",
        "smoothing-envelope": "robusteval.certify.smoothing.envelope:SmoothingEnvelope",
        "smoothing-sequential": "robusteval.certify.smoothing.sequential:SmoothingSequential",
    },
)
"""Name -> where the class is. A new method is one file and one line here."""
