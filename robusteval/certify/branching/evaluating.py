"""What the ReLUs of a network take at images, by its graph: for scores and starts, never for proofs."""

from __future__ import annotations

from torch import Tensor

from robusteval.certify.branching.bounding import Problem


def inputs_at(problem: Problem, x: Tensor) -> dict[int, Tensor]:
    """What each layer of ReLUs takes at images x (P, C, H, W), by its place: (P, C, H, W) in float64."""
    graph, found = problem.graph, {}
    values = [x.double()]
    for k, node in enumerate(graph.nodes[1:], 1):
        taken = [values[j] for j in node.inputs]
        if k in problem.rectifiers.places:
            found[k] = taken[0]
        values.append(node.op.output(*taken))
    return found
