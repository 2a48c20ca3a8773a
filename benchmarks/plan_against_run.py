"""A plan held against the run that it was made for: passes and seconds, stage by stage.

    python benchmarks/plan_against_run.py DATA MODEL --arch lenet5 [--protocol quick] [--images 50] [--out DIR]

Passes are those that the plan counts of images that nothing breaks; seconds those of the model's passes, as one of each
was measured before the run. Beside them what the meter counted, the seconds of the models and those of the whole stage.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from measuring import arguments, open_model
from robusteval.auditing.forecast import forecast
from robusteval.auditing.protocol import read_protocol
from robusteval.auditing.session import run_audit
from robusteval.data import read_images


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("model")
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images = read_images(options.data, options.images)
    classifier = open_model(options.model, options.arch, options.data)
    protocol = read_protocol(options.protocol)
    planned = forecast(classifier, images, protocol)
    with tempfile.TemporaryDirectory() as folder:
        run = run_audit(classifier, images, protocol, options.out or folder)
    print(f"{classifier.name}, {len(images)} images, protocol {protocol.name}, batches of {planned.batch_size}")
    print("| stage | forward: planned | counted | backward: planned | counted | seconds: planned | models | stage |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    errors = []
    for stage, record in zip(planned.stages, run.manifest.stages, strict=True):
        cost, passes = record.cost, stage.passes
        if record.status != "done":
            continue
        told = ("-", "-", "-")
        if passes is not None and stage.seconds is not None:
            told = (f"{passes.forward:.0f}", f"{passes.backward:.0f}", f"{stage.seconds:.2f}")
        print(
            f"| {stage.name} | {told[0]} | {cost.forwards:.0f} | {told[1]} | {cost.backwards:.0f} | {told[2]} "
            f"| {cost.model_seconds:.2f} | {cost.seconds:.2f} |"
        )
        if passes is not None and passes.forward and cost.forwards:
            errors.append(passes.forward / cost.forwards)
    known = [r for s, r in zip(planned.stages, run.manifest.stages, strict=True) if s.passes is not None]
    unknown = [r for s, r in zip(planned.stages, run.manifest.stages, strict=True) if s.passes is None]
    models, every = sum(r.cost.model_seconds for r in known), sum(r.cost.seconds for r in known)
    print(
        f"of {len(known)} stages planned: {planned.seconds:.1f} s planned, {models:.1f} s in models, {every:.1f} s in "
        f"all; {len(unknown)} stages not planned: {sum(r.cost.seconds for r in unknown):.1f} s"
    )
    errors.sort()
    within = sum(0.5 <= error <= 2 for error in errors)
    middle = math.exp(sum(map(math.log, errors)) / len(errors))
    print(
        f"forward passes planned over counted: geometric mean {middle:.2f}, from {errors[0]:.2f} to {errors[-1]:.2f}, "
        f"{within} of {len(errors)} stages within a factor of 2"
    )


if __name__ == "__main__":
    main()
