"""The command line: ``locality-prior reproduce | train | study | analyse | report | prior | bench``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from locality_prior._check import wrong

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from locality_prior.experiments.machine import Machine

PROGRAM = "locality-prior"


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status: 0, 1 where cells failed, 2 for bad input (one line), 130 when interrupted."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command goes on, from the last state kept", file=sys.stderr)
        return 130
    except BrokenExecutor:
        said = "a network's process was ended from outside; the same command goes on from its last state"
        print(f"{PROGRAM}: error: {said}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("locality_prior"):
            raise
        hint = "pip install 'locality-prior[experiments]'"
        print(f"{PROGRAM}: error: the commands need {error.name}: {hint}", file=sys.stderr)
        return 2
    except OSError as error:
        said = f"{error.filename}: {error.strerror}, expected a file or directory to use"
        print(f"{PROGRAM}: error: {_one_line(error) if error.filename is None else said}", file=sys.stderr)
        return 2
    except (ValueError, TypeError, RuntimeError) as error:
        print(f"{PROGRAM}: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _main(arguments: list[str] | None) -> int:
    import signal

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)  # a polite kill is an interrupt
    parser, commands = _parser()
    options = parser.parse_args(arguments)
    return commands[options.command](options[options.command]) or 0


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _parser() -> tuple[ArgumentParser, dict[str, Callable[[Namespace], int | None]]]:
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):  # type: ignore[misc]
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            print(f"{PROGRAM}: error: {_one_line(message)} (see {PROGRAM} --help)", file=sys.stderr)
            sys.exit(2)

    parser = Parser(
        prog=PROGRAM,
        description="Spatially embedded neural networks: train a control and a local network, and look at the map.",
    )
    commands = parser.add_subcommands(dest="command", metavar="COMMAND")
    made: dict[str, Callable[[Namespace], int | None]] = {}
    for name, define, run in (
        ("reproduce", _define_reproduce, _reproduce),
        ("train", _define_train, _train),
        ("study", _define_study, _study),
        ("analyse", _define_analyse, _analyse),
        ("report", _define_report, _report),
        ("prior", _define_prior, _prior),
        ("bench", _define_bench, _bench),
    ):
        sub = Parser(description=run.__doc__)
        define(sub)
        commands.add_subcommand(name, sub, help=(run.__doc__ or "").split(".")[0])
        made[name] = run
    return parser, made


DATA_ROOT = "folder that holds MNIST/raw, or train and val of ImageNet (default: LOCALITY_PRIOR_DATA; MNIST: download)"


def _define_reproduce(parser: Any) -> None:
    from locality_prior.experiments.config import PRESETS, RECIPES

    parser.add_argument(
        "experiment", choices=["digits", "mnist", "imagenet"], help="data set; digits needs no file and no network"
    )
    parser.add_argument(
        "--recipe",
        choices=list(RECIPES),
        default="sgd",
        help="optimiser: sgd gives the source document's numbers, rmsprop is what its table says",
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="full",
        help="imagenet: AlexNet as it is, or one on 64x64 crops that two cores train in half an hour",
    )
    parser.add_argument(
        "--layer",
        choices=["fc6", "fc7"],
        default="fc7",
        help="imagenet: which layer is local, fc7 (4096 to 4096) or fc6 (9216 to 4096)",
    )
    parser.add_argument("--epochs", type=int, help="epochs of each network (default: the recipe's)")
    parser.add_argument("--batch-size", type=int, help="images in a batch, over all devices (default: the recipe's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="a pair of networks for each")
    parser.add_argument("--l1", type=float, default=0.0, help="λ of λ‖W‖₁ of the layer, added to the loss")
    parser.add_argument(
        "--precision", choices=["32-true", "16-mixed", "bf16-mixed"], default="32-true", help="of the arithmetic"
    )
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="COST",
        help="further conditions, each a cost as name[:length][@radius]: linear@2 ends wires at distance 2",
    )
    parser.add_argument("--data-root", help=DATA_ROOT)
    parser.add_argument("--out", help="directory for runs, summary.json and report.html (default: results/NAME-RECIPE)")
    _define_machine(parser)


def _define_machine(parser: Any) -> None:
    group = parser.add_argument_group("where it is computed")
    group.add_argument("--accelerator", default="cpu", help="cpu, cuda, mps or auto")
    group.add_argument("--devices", default="1", help="how many on each node, or auto")
    group.add_argument("--nodes", type=int, default=1, help="how many nodes")
    group.add_argument(
        "--strategy",
        choices=["auto", "ddp", "fsdp"],
        default="auto",
        help="over several devices: ddp (auto), or fsdp, which shards large sheets (GPUs)",
    )
    group.add_argument("--sync-batchnorm", action="store_true", help="BatchNorm over all devices (GPUs)")
    group.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    group.add_argument("--workers", type=int, default=0, help="processes that read photographs, for each device")
    group.add_argument("--skip-broken", action="store_true", help="leave out files that cannot be read, and count them")
    group.add_argument("--save-every", type=float, default=300.0, help="seconds between states kept within an epoch")


def _machine(options: Namespace) -> Machine:
    from dataclasses import fields

    from locality_prior.experiments.machine import Machine

    return Machine(**{field.name: options[field.name] for field in fields(Machine)})


def _reproduce(options: Namespace) -> None:
    """Train control and local networks side by side, compare them and write the report. An interrupted one goes on."""
    import dataclasses
    from threading import Thread

    from locality_prior.experiments.config import standard
    from locality_prior.experiments.machine import first
    from locality_prior.studies.reproduction import CONDITIONS, Reproduction, reproduce

    recipe, sheet, alexnet = standard(options.experiment, options.recipe, options.preset)
    given = {"epochs": options.epochs, "batch_size": options.batch_size}
    recipe = dataclasses.replace(
        recipe, l1=options.l1, precision=options.precision, **{k: v for k, v in given.items() if v is not None}
    )
    alexnet = alexnet and dataclasses.replace(alexnet, layer=options.layer)
    conditions = CONDITIONS | {cost: cost for cost in options.also}
    study = Reproduction(options.experiment, recipe, tuple(options.seeds), conditions, sheet, alexnet)
    default = f"results/{options.experiment}-{options.recipe}"
    directory = Path(default if options.out is None else options.out)
    # what the page needs takes seconds to import: they pass while the networks start
    Thread(target=_import_report, daemon=True).start()
    reproduce(study, directory, options.data_root, machine=_machine(options))
    if first():
        _summarise(directory)


def _define_train(parser: Any) -> None:
    from locality_prior.experiments.config import Run

    parser.add_argument("--config", action="config", help="a YAML file of the options below: any run's config.yaml")
    parser.add_class_arguments(Run)
    parser.add_argument("--data-root", help=DATA_ROOT)
    parser.add_argument("--out", required=True, help="the run's directory")
    _define_machine(parser)


def _train(options: Namespace) -> None:
    """Train one network into a run directory. An interrupted run goes on from its last state."""
    import torch
    from jsonargparse import Namespace
    from rich.progress import Progress

    from locality_prior.experiments.config import AlexNet, Recipe, Run
    from locality_prior.experiments.machine import first
    from locality_prior.experiments.measure import analyse_run
    from locality_prior.experiments.train import train

    recipe = Recipe(**vars(options.recipe)) if not isinstance(options.recipe, Recipe) else options.recipe
    alexnet = AlexNet(**vars(options.alexnet)) if isinstance(options.alexnet, Namespace) else options.alexnet
    run = Run(options.data, options.cost, recipe, options.seed, tuple(options.sheet), alexnet, options.shuffled)
    machine = _machine(options)
    if machine.alone:
        torch.set_num_threads(1)  # quicker than two for networks of this size
    with Progress(disable=not (sys.stderr.isatty() and first())) as progress:
        bar = progress.add_task(f"{run.cost} · seed {run.seed}", total=run.recipe.epochs)

        def tick(epoch: int, share: float) -> None:
            progress.update(bar, completed=epoch - 1 + share)

        writes = train(run, Path(options.out), options.data_root, machine, tick)
    if writes:
        numbers = analyse_run(Path(options.out))
        print(f"{options.out}: accuracy {numbers['accuracy']:.2f} %, loss {numbers['loss']:.4f}")


def _define_study(parser: Any) -> None:
    from locality_prior.experiments.config import PRESETS, RECIPES

    parser.add_argument(
        "file", nargs="?", help="YAML of the options below by name; also: further ones, and hypotheses (see studies/)"
    )
    group = parser.add_argument_group("what is combined (each takes several; default: the file's)")
    group.add_argument("--data", nargs="+", choices=["digits", "mnist", "imagenet"], help="data sets (digits)")
    group.add_argument("--seeds", type=int, nargs="+", help="a network of each condition for each (1 2 3)")
    group.add_argument(
        "--cost",
        nargs="+",
        help="costs as name[:length[,p]][@radius] (flat linear); flat is always among them",
    )
    group.add_argument("--shuffled", nargs="+", metavar="COST", help="costs of which the shuffled null is trained too")
    group.add_argument("--scale", type=float, nargs="+", help="what the costs' lengths are multiplied by (1)")
    group.add_argument("--optimizer", nargs="+", choices=list(RECIPES), help="recipes (sgd)")
    group.add_argument("--weight-decay", type=float, nargs="+", help="L2 on all parameters (the recipe's)")
    group.add_argument("--l1", type=float, nargs="+", help="λ of λ‖W‖₁ of the layer, added to the loss (0)")
    group.add_argument("--sheet", nargs="+", help="units of the layer, such as 7x7 16x16 (the experiment's)")
    parser.add_argument("--epochs", type=int, help="epochs of each network (the recipe's)")
    parser.add_argument("--preset", choices=list(PRESETS), help="imagenet: the size of AlexNet (full)")
    parser.add_argument("--data-root", help=DATA_ROOT)
    parser.add_argument(
        "--executor", default="processes", help="processes of this machine, or dask://host:port of a scheduler"
    )
    parser.add_argument(
        "--out", help="directory for runs, study.json and report.html (default: results/NAME of the file)"
    )


def _study(options: Namespace) -> int:
    """Train all combinations of settings under every seed, compare and report. An interrupted study goes on."""
    from dataclasses import fields
    from threading import Thread

    from locality_prior.experiments.config import read_yaml
    from locality_prior.studies.cells import run_study
    from locality_prior.studies.findings import find
    from locality_prior.studies.pool import cluster
    from locality_prior.studies.study import Axes, study_from

    values = {} if options.file is None else read_yaml(Path(options.file))
    if isinstance(values, dict):
        values |= {f.name: options[f.name] for f in fields(Axes) if options[f.name] is not None}
    study = study_from(values)
    directory = Path(options.out or f"results/{Path(options.file).stem if options.file else 'study'}")
    Thread(target=_import_report, daemon=True).start()
    with cluster(options.executor) as executor:
        errors = run_study(study, directory, options.data_root, executor)
    find(directory, errors)
    _show_study(directory)
    return 1 if errors else 0


def _show_study(directory: Path) -> None:
    from locality_prior import report
    from locality_prior.report import findings, tables
    from locality_prior.studies.findings import read_findings

    page = report.write(directory)
    tables.show(*findings.tables(read_findings(directory)))
    print(page)


def _define_analyse(parser: Any) -> None:
    parser.add_argument("directory", help="of a run, a reproduction or a study")


def _analyse(options: Namespace) -> None:
    """Measure a finished run (analysis.json), or compare the runs of a reproduction or a study."""
    import json

    from locality_prior.experiments.measure import analyse_run
    from locality_prior.report import findings, tables
    from locality_prior.studies.findings import find
    from locality_prior.studies.reproduction import REPRODUCTION, SUMMARY
    from locality_prior.studies.study import FINDINGS, STUDY
    from locality_prior.studies.summary import summarise

    directory = Path(options.directory)
    if (directory / STUDY).exists():
        found = find(directory)
        tables.show(*findings.tables(found))
        done = sum(cell["measures"] is not None for cell in found["cells"])
        print(f"{directory / FINDINGS}: {done} of {len(found['cells'])} cells")
    elif (directory / REPRODUCTION).exists():
        summary = summarise(directory)
        tables.show(tables.results(summary), tables.tests(summary))
        print(directory / SUMMARY)
    else:
        print(json.dumps(analyse_run(directory), indent=2))


def _define_report(parser: Any) -> None:
    parser.add_argument("directory", help="of a reproduction or a study: all that is read")


def _report(options: Namespace) -> None:
    """Write report.html and figures/ from what a directory holds."""
    from locality_prior import report

    print(report.write(Path(options.directory)))


def _import_report() -> None:

    import locality_prior.report  # noqa: F401


def _summarise(directory: Path) -> None:
    from locality_prior import report
    from locality_prior.report import tables
    from locality_prior.studies.summary import summarise

    summary = summarise(directory)
    page = report.write(directory)
    tables.show(tables.results(summary), tables.tests(summary))
    print(page)


def _define_prior(parser: Any) -> None:
    parser.add_argument("sheets", nargs="+", metavar="SHEET", help="grids such as 7x7 64x64, or 7 for a line")
    parser.add_argument("--cost", default="linear", help="name[:length][@radius]")
    parser.add_argument("--out", default="prior.png", help="the picture: png, pdf or svg")


def _prior(options: Namespace) -> None:
    """Draw the signal that a sheet's centre and first unit receive, and tell how many wires there are."""
    from locality_prior.report import priors

    for line in priors.draw_priors(options.sheets, options.cost, Path(options.out)):
        print(line)


def _define_bench(parser: Any) -> None:
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="the rows to measure (default: all)")
    parser.add_argument("--device", default="cpu", help="where the layers compute: cpu, cuda …")
    parser.add_argument("--out", help="a JSON file for the figures")


def _bench(options: Namespace) -> None:
    """Time the layer against what it replaces, in turns, in one run: ratios, above 1 where ours is quicker."""
    from rich.console import Console

    from locality_prior import bench
    from locality_prior.report import tables

    out = None if options.out is None else Path(options.out)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise wrong("out", str(out), "a file in a directory that is there")
    said = Console(stderr=True)
    with said.status("measuring …") as status:

        def tell(row: bench.Row) -> None:
            status.update(f"{row.name}: {row.ratio:.2f}×; going on …")
            if not said.is_terminal:
                said.print(f"{row.name} {row.ratio:.2f}")

        rows = bench.bench(options.only, options.device, tell)
    tables.show(bench.table(rows), prose="detail")
    if out is not None:
        bench.write(rows, out, options.device)
        print(out)


if __name__ == "__main__":
    sys.exit(main())
