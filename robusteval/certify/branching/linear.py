"""Sub-problems in which no ReLU is left to split: the network is affine there, and the closest adversarial example
is the solution of a linear program, in L1 and Linf."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from robusteval.certify.branching.bounding import Problem
from robusteval.certify.branching.phases import Subproblems
from robusteval.core.norms import Norm

LARGEST = 10**6
"""Entries of the matrix of conditions beyond which nothing is solved."""
BEYOND = 1e-6
"""By how much the rival has to win, so that it still does in the network's own precision."""


def closest_in_phases(problem: Problem, subproblems: Subproblems) -> Tensor:
    """Images (P, C, H, W) of one sub-problem each where its rival wins, the closest there are; the image itself where
    there is none, or nothing is solved. A start for the judge, no proof."""
    x = problem.ball.x[subproblems.of].clone()
    size = problem.rectifiers.count * x[0].numel()
    if problem.ball.norm is not Norm.L2 and size <= LARGEST:
        for p in range(len(x)):
            found = _solved(problem, subproblems.select(torch.tensor([p])), x[p])
            if found is not None:
                x[p] = found
    return x


def _solved(problem: Problem, one: Subproblems, centre: Tensor) -> Tensor | None:
    active = {}
    for k, sign in problem.rectifiers.parts(one.signs).items():
        known = problem.intervals(k).upper[one.of] > 0
        active[k] = torch.where(sign == 0, known, sign > 0)
    label, rival = problem.labels[one.of], one.rival

    def conditions(x: Tensor) -> Tensor:
        """What has to be at most 0: inputs of ReLUs against their phases, the margin."""
        values, found = [x[None]], []
        for k, node in enumerate(problem.graph.nodes[1:], 1):
            taken = [values[j] for j in node.inputs]
            if k in active:
                found.append(torch.where(active[k], -taken[0], taken[0]).flatten())
                values.append(taken[0] * active[k])
            else:
                # What is neither split nor affine counts as it is linearised at the image.
                values.append(node.op.output(*taken))
        logits = values[-1].flatten()
        return torch.cat([*found, logits[label] - logits[rival] + BEYOND])

    with torch.enable_grad():
        slope = torch.autograd.functional.jacobian(conditions, centre).flatten(1).numpy()
    start = conditions(centre).detach().numpy()
    x, n = centre.flatten().numpy(), centre.numel()
    # |step_j| <= t_j, with one t for all in Linf: variables (step, t).
    spread = np.eye(n) if problem.ball.norm is Norm.L1 else np.ones((n, 1))
    sides = np.block([[np.eye(n), -spread], [-np.eye(n), -spread]])
    rows = np.vstack([np.hstack([slope, np.zeros((len(slope), spread.shape[1]))]), sides])
    cost = np.append(np.zeros(n), np.ones(spread.shape[1]))
    bounds = [*zip(-x, 1 - x, strict=True), *[(0, None)] * spread.shape[1]]
    found = linprog(cost, A_ub=rows, b_ub=np.append(-start, np.zeros(2 * n)), bounds=bounds)
    if found.status != 0:
        return None
    return torch.from_numpy(found.x[:n]).view_as(centre).add(centre).clamp(0, 1)
