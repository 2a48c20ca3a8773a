"""The commands that run a protocol: audit, certify, demo."""

from __future__ import annotations

from pathlib import Path

from robusteval.cli.asked import AskedImages, asks_for_images, may_ask_for_images
from robusteval.cli.options import (
    AddressOption,
    ArchOption,
    BatchSizeOption,
    BinaryOption,
    CheckpointsArgument,
    DeviceOption,
    DTypeOption,
    EngineOption,
    EotOption,
    EvidenceOption,
    LimitOption,
    MeanOption,
    OutOption,
    PropertyOption,
    ProtocolOption,
    RequireOption,
    SeedOption,
    SourceArchOption,
    SourceOption,
    StdOption,
    StrictOption,
    TrustOption,
    WorkersOption,
)
from robusteval.cli.properties import check_asked, property_image, property_verdict
from robusteval.cli.requiring import check_requirements, requirements
from robusteval.cli.running import at_place, audit_and_report, explains_mistakes, open_checkpoints, out, whole


@explains_mistakes
@asks_for_images
def audit(
    checkpoints: CheckpointsArgument,
    asked: AskedImages,
    out_dir: OutOption,
    arch: ArchOption = None,
    protocol: ProtocolOption = "quick",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DTypeOption = "float32",
    batch_size: BatchSizeOption = "auto",
    workers: WorkersOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    evidence: EvidenceOption = "all",
    source: SourceOption = None,
    source_arch: SourceArchOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    binary: BinaryOption = False,
    eot: EotOption = 1,
    strict: StrictOption = False,
    trust: TrustOption = None,
    require: RequireOption = None,
) -> None:
    """Bracket the minimum adversarial distance of each image, from below and from above, and write a report.

    Several checkpoints are audited side by side, each into a directory of its own name, with the others as sources of
    its transfer attacks; the matrix of sources and targets is written beside them, and of a paper's protocol the
    paper's tables over all of them.
    """
    from robusteval.auditing.protocol import read_protocol

    methods = read_protocol(protocol)
    wanted = requirements(require, methods)
    images = asked.read(seed)
    models = open_checkpoints(checkpoints, arch, images, mean, std, binary, trust)
    others = open_checkpoints(source or [], source_arch or arch, images, mean, std, binary, trust)
    with at_place(out_dir) as folder:
        runs = audit_and_report(
            models,
            images,
            methods,
            folder,
            sources=others,
            seed=seed,
            device=device,
            dtype=dtype,
            batch_size=whole(batch_size),
            workers=workers,
            engine=engine,
            address=address,
            evidence=evidence,
            limit=asked.limit,
            sample=asked.sample,
            strict=strict,
            eot=eot,
        )
    check_requirements(wanted, runs)


@explains_mistakes
@may_ask_for_images
def certify(
    checkpoints: CheckpointsArgument,
    asked: AskedImages,
    out_dir: OutOption,
    property_: PropertyOption = None,
    arch: ArchOption = None,
    protocol: ProtocolOption = "certify",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DTypeOption = "float32",
    batch_size: BatchSizeOption = "auto",
    workers: WorkersOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
    evidence: EvidenceOption = "all",
    mean: MeanOption = None,
    std: StdOption = None,
    binary: BinaryOption = False,
    strict: StrictOption = False,
    trust: TrustOption = None,
    require: RequireOption = None,
) -> None:
    """Certify each image, without attacking it: the certificates of a protocol, and one page that says in plain words
    what they guarantee and what they do not."""
    from robusteval.auditing.asked import asked_at
    from robusteval.auditing.protocol import certificates_only, read_protocol
    from robusteval.core.norms import Norm
    from robusteval.reports.certification.page import write_certification

    methods = certificates_only(read_protocol(protocol))
    wanted = requirements(require, methods)
    check_asked(asked.data, property_)
    images, budget = property_image(property_, checkpoints) if property_ else (asked.read(seed), 0.0)
    if property_:
        methods = asked_at(methods, Norm.LINF, budget)
    models = open_checkpoints(checkpoints, arch, images, mean, std, binary, trust)
    with at_place(out_dir) as folder:
        runs = audit_and_report(
            models,
            images,
            methods,
            folder,
            seed=seed,
            device=device,
            dtype=dtype,
            batch_size=whole(batch_size),
            workers=workers,
            engine=engine,
            address=address,
            evidence=evidence,
            limit=asked.limit,
            sample=asked.sample,
            strict=strict,
        )
        for run in runs:
            out.line(f"Certification: {write_certification(run)}")
            if property_:
                out.line(property_verdict(property_, run, budget))
    check_requirements(wanted, runs)


@explains_mistakes
def demo(
    out_dir: OutOption = "runs/demo",
    protocol: ProtocolOption = "quick",
    limit: LimitOption = 50,
    seed: SeedOption = 0,
) -> None:
    """Audit the small checkpoints that come with robusteval on real digits."""
    from robusteval.auditing.protocol import read_protocol
    from robusteval.data import read_images

    images = read_images("digits", limit)
    paths = sorted((Path(__file__).parents[1] / "demo").glob("*.safetensors"))
    models = open_checkpoints([str(path) for path in paths], "digits-cnn", images, None, None)
    with at_place(out_dir) as folder:
        audit_and_report(models, images, read_protocol(protocol), folder, seed=seed, limit=limit)
