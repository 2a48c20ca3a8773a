"""scipy's L-BFGS-B on many problems at once, their evaluations in one batch.

The solver minimises one function at a time and calls it. So each problem has a solver in a thread of its own, and the
threads wait for one another at each evaluation: the model sees the points of all open problems together, while the
problems stay apart. A solved problem leaves the batch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

Floats = NDArray[np.float64]
Evaluate = Callable[[NDArray[np.int64], Floats], tuple[Floats, Floats]]
"""The values (m,) and gradients (m, D) of the problems `rows` (m,) at the points (m, D)."""


def minimise_in_box(evaluate: Evaluate, starts: Floats, iterations: int) -> Floats:
    """Minimisers (N, D) in [0, 1]^D of N smooth functions, from `starts` (N, D).

    `evaluate` is called in the calling thread only; what it raises is raised here, after all solvers have ended.
    """
    ends = starts.copy()
    asked: SimpleQueue[tuple[int, Floats | None]] = SimpleQueue()
    answers: list[SimpleQueue[tuple[float, Floats] | None]] = [SimpleQueue() for _ in starts]

    def solve(i: int) -> None:
        def ask(point: Floats) -> tuple[float, Floats]:
            asked.put((i, point.copy()))
            answer = answers[i].get()
            if answer is None:
                raise InterruptedError("the evaluation failed")
            return answer

        try:
            options = {"maxiter": iterations}
            ends[i] = minimize(ask, starts[i], jac=True, method="L-BFGS-B", bounds=Bounds(0, 1), options=options).x
        finally:
            asked.put((i, None))

    with ThreadPoolExecutor(max(1, len(starts))) as pool:
        solved = [pool.submit(solve, i) for i in range(len(starts))]
        running = len(starts)
        try:
            while running:
                messages = [asked.get() for _ in range(running)]
                points = {i: point for i, point in sorted(messages, key=lambda m: m[0]) if point is not None}
                running = len(points)
                if points:
                    values, gradients = evaluate(np.array(list(points)), np.stack(list(points.values())))
                    for i, value, gradient in zip(points, values, gradients, strict=True):
                        answers[i].put((float(value), gradient))
        finally:
            for waiting in answers:
                waiting.put(None)
    for future in solved:
        future.result()
    return ends
