"""The command line: ``locality-prior reproduce | study | train | analyse | report | prior | bench``.

Every setting is spelled as in a study's YAML and in Python; only hyphens stand for underscores. Nothing that takes long
to import is imported before it is needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from locality_prior._check import Told, short, wrong

PROGRAM = "locality-prior"
DEBUG = "LOCALITY_PRIOR_DEBUG"

DATA_ROOT = "a folder that the task reads, where it has a parameter data_root (default: what LOCALITY_PRIOR_DATA names)"
WORDS = """\
A task or a model is a word: [MODULE or FILE.py:]NAME[:key=value,...]. Without a module, NAME is one of the catalog:
tasks digits, mnist and photographs; models lenet, alexnet and sheets. A cost is name[:length[,p]][@radius], as in flat,
linear, exponential:2 or linear@3, which ends at distance 3. A geometry is 32x32, 49 (a line), torus:32x32, hex:20x24 or
sphere:500; two with a comma between them are a source and a target."""

#: Flags of a recipe: name → (type, help).
RECIPE: dict[str, tuple[Any, str]] = {
    "optimizer": (str, "sgd, rmsprop, adam or adamw"),
    "lr": (str, "learning rate"),
    "momentum": (str, "of sgd and rmsprop"),
    "weight_decay": (str, "L2 on all parameters; of adamw, its decay"),
    "epochs": (int, "epochs of each network"),
    "batch_size": (int, "items in a batch, over all devices"),
    "l1": (str, "λ of λ‖W‖₁ of the layers that are made local, added to the loss"),
    "drop_every": (int, "epochs after which lr falls tenfold, again and again; 0: never"),
    "precision": (str, "32-true, 16-mixed or bf16-mixed"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0; 1 where networks failed or something unforeseen happened; 2 for what the caller can mend,
        which one line says; 130 when interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given or os.environ.get(DEBUG, "") not in ("", "0")
    try:
        return _main([word for word in given if word != "--debug"])
    except KeyboardInterrupt:
        return _end("interrupted; the same command goes on from the last state kept", 130)
    except BrokenExecutor:
        return _end("a process was ended from outside; the same command goes on from the last state kept", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has left
        return 1
    except Exception as error:
        if debug:
            raise
        return _told(error)


def _told(error: Exception) -> int:
    """Say an error in one line."""
    if isinstance(error, Told):
        return _end(f"error: {error}", 2)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "locality_prior").startswith("locality_prior"):
        hint = "pip install 'locality-prior[experiments]'"
        return _end(f"error: this command needs {error.name}, which is not installed: {hint}", 2)
    if isinstance(error, OSError) and error.filename is not None:
        return _end(f"error: {error.filename}: {error.strerror}", 2)
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return _end("error: the machine's memory is not enough for this; try smaller sheets or batches", 2)
    return _end(f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1)


def _end(message: str, status: int) -> int:
    print(f"{PROGRAM}: {short(message, 600)}", file=sys.stderr)
    return status


def _main(arguments: list[str]) -> int:
    import signal

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)  # a polite kill is an interrupt
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int | None] = options.run
    return run(options) or 0


class _Parser(argparse.ArgumentParser):
    """Errors in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: error: {short(message, 600)} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="Spatially embedded neural networks: train them beside their controls, measure them, see the map.",
        epilog=f"--debug, or {DEBUG}=1, shows the traceback of an error.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, define, run in (
        ("reproduce", _define_reproduce, _reproduce),
        ("study", _define_study, _study),
        ("train", _define_train, _train),
        ("analyse", _define_analyse, _analyse),
        ("report", _define_report, _report),
        ("prior", _define_prior, _prior),
        ("bench", _define_bench, _bench),
    ):
        said = (run.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=said.splitlines()[0],
            description=said,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=WORDS if name in ("reproduce", "study", "train") else None,
            allow_abbrev=False,
        )
        define(command)
        command.set_defaults(run=run)
    return parser


# One study


def _define_reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="digits, mnist, imagenet or imagenet-small: a study file of the catalog")
    _define_axes(parser)


def _reproduce(options: argparse.Namespace) -> int:
    """Run a built-in study: the source document's networks, beside their controls, and the page."""
    from locality_prior import catalog

    if options.name not in catalog.studies():
        raise wrong("name", repr(options.name), f"one of {', '.join(catalog.studies())}")
    return _run_study(catalog.STUDIES / f"{options.name}.yaml", options)


def _define_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        help="YAML of the settings below by name, further ones and hypotheses (docs/studies.md)",
    )
    _define_axes(parser)


def _study(options: argparse.Namespace) -> int:
    """Train every combination of settings under every seed, compare them and write the page.

    A study that was interrupted goes on where it was. Running a study file runs the code that it names.
    """
    return _run_study(None if options.file is None else Path(options.file), options)


def _define_axes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is combined (each takes several values; default: the file's)")
    group.add_argument("--task", nargs="+", metavar="TASK", help="what is learned")
    group.add_argument("--model", nargs="+", metavar="MODEL", help="networks")
    group.add_argument("--seeds", type=int, nargs="+", metavar="N", help="a network of each condition for each")
    group.add_argument("--cost", nargs="+", metavar="COST", help="wiring costs; flat, the control, is always there")
    group.add_argument("--shuffled", nargs="*", metavar="COST", help="costs of which the shuffled null is trained too")
    group.add_argument("--scale", nargs="+", metavar="X", help="what the costs' lengths are multiplied by")
    for name, (kind, said) in RECIPE.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", metavar="X", help=said)
    _define_sheets(parser)
    parser.add_argument("--data-root", help=DATA_ROOT)
    parser.add_argument(
        "--executor", default="processes", help="processes of this machine, or dask://host:port of a scheduler"
    )
    parser.add_argument("--out", help="directory for the runs, study.json and report.html (default: results/NAME)")
    _define_machine(parser)


def _define_sheets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where units sit (default: what the model says)")
    group.add_argument(
        "--place", nargs="+", metavar="MODULE=GEOMETRY", help="sheets to look at, such as fc1=32x32 fc2=32x32"
    )
    group.add_argument(
        "--local",
        nargs="+",
        metavar="LAYER=GEOMETRY",
        help="layers that the cost is put into (default: the placed ones that can be)",
    )


def _run_study(file: Path | None, options: argparse.Namespace) -> int:
    from dataclasses import fields
    from threading import Thread

    from locality_prior._files import read_yaml
    from locality_prior._processes import cluster

    values = {} if file is None else read_yaml(file)
    if not isinstance(values, dict):
        raise wrong("file", str(file), "settings by name")

    from locality_prior.studies.cells import run_study
    from locality_prior.studies.findings import find
    from locality_prior.studies.study import Axes, study_from

    flags = {f.name: getattr(options, f.name) for f in fields(Axes) if getattr(options, f.name) is not None}
    # what a flag says holds for all of the study
    also = [
        {k: v for k, v in one.items() if k not in flags} for one in values.get("also") or () if isinstance(one, dict)
    ]
    study = study_from({**values, **flags, **({"also": also} if also else {})})
    directory = Path(options.out or f"results/{'study' if file is None else file.stem}")
    machine = _machine(options)
    # what the page needs takes seconds to import: they pass while the networks start
    Thread(target=_import_report, daemon=True).start()
    with cluster(options.executor) as executor:
        errors = run_study(study, directory, options.data_root, executor, machine=machine)
    if _first():
        find(directory, errors)
        _show(directory)
    return 1 if errors else 0


def _first() -> bool:
    from locality_prior.runs.machine import first

    return first()


def _import_report() -> None:
    import locality_prior.report.page  # noqa: F401


def _show(directory: Path) -> None:
    from locality_prior import report
    from locality_prior.report import tables
    from locality_prior.studies.findings import read_findings

    page = report.write(directory)
    tables.show(*tables.tables(read_findings(directory)))
    print(page)


def _define_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", help="YAML of the settings below by name, such as any run's config.yaml")
    group = parser.add_argument_group("the network (default: the config's)")
    group.add_argument("--task", metavar="TASK", help="what it learns (digits)")
    group.add_argument("--model", metavar="MODEL", help="the network (lenet)")
    group.add_argument("--cost", metavar="COST", help="what its wires cost (flat)")
    group.add_argument("--shuffled", action="store_true", default=None, help="shuffle each row of P: the null of a map")
    group.add_argument("--seed", type=int, metavar="N", help="of its weights, the order of the data and dropout (1)")
    for name, (kind, said) in RECIPE.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=said)
    _define_sheets(parser)
    parser.add_argument("--data-root", help=DATA_ROOT)
    parser.add_argument("--out", required=True, help="the run's directory")
    _define_machine(parser)


def _train(options: argparse.Namespace) -> None:
    """Train one network into a run directory, and measure it. A run that was interrupted goes on."""
    import torch
    from rich.progress import Progress

    from locality_prior._files import read_yaml
    from locality_prior.runs.config import Recipe, Run
    from locality_prior.runs.files import read_analysis
    from locality_prior.runs.training import condition_of, train

    values = {} if options.config is None else read_yaml(Path(options.config))
    recipe = values.pop("recipe", {}) if isinstance(values, dict) else None
    names = ("task", "model", "cost", "shuffled", "place", "local", "seed")
    if not isinstance(values, dict) or not isinstance(recipe, dict) or not values.keys() <= set(names):
        raise wrong("config", str(options.config), f"the settings {', '.join(names)} and recipe")
    if not recipe.keys() <= RECIPE.keys():
        raise wrong("config", f"a recipe of {', '.join(map(str, recipe))}", f"settings among {', '.join(RECIPE)}")
    values |= {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    recipe |= {name: getattr(options, name) for name in RECIPE if getattr(options, name) is not None}
    run = Run(**{"task": "digits", "model": "lenet", **values, "recipe": Recipe(**recipe)})
    machine = _machine(options)
    if machine.alone:
        torch.set_num_threads(1)  # quicker than two for small networks
    with Progress(disable=not (sys.stderr.isatty() and _first())) as progress:
        bar = progress.add_task(f"{condition_of(run)} · seed {run.seed}", total=run.recipe.epochs)

        def tick(epoch: int, share: float) -> None:
            progress.update(bar, completed=epoch - 1 + share)

        writes = train(run, Path(options.out), options.data_root, machine, tick)
    if writes:
        told = {k: v for k, v in read_analysis(Path(options.out))["measures"].items() if "." not in k and v is not None}
        print(f"{options.out}: " + ", ".join(f"{name} {value:.4g}" for name, value in told.items()))


def _define_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where it is computed")
    group.add_argument("--accelerator", default="cpu", help="cpu, cuda, mps or auto")
    group.add_argument("--devices", default="1", help="how many on each node, or auto")
    group.add_argument("--nodes", type=int, default=1, help="how many nodes")
    group.add_argument("--strategy", default="auto", help="over several devices: auto (ddp), ddp, or fsdp (GPUs)")
    group.add_argument("--sync-batchnorm", action="store_true", help="BatchNorm over all devices (GPUs)")
    group.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    group.add_argument("--workers", type=int, default=0, help="processes that read photographs, for each device")
    group.add_argument("--skip-broken", action="store_true", help="leave out files that cannot be read, and count them")
    group.add_argument("--save-every", type=float, default=300.0, help="seconds between states kept within an epoch")


def _machine(options: argparse.Namespace) -> Any:
    from dataclasses import fields

    from locality_prior.runs.machine import Machine

    return Machine(**{field.name: getattr(options, field.name) for field in fields(Machine)})


# What is there already


def _define_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", help="of a study, or a folder of run directories")


def _analyse(options: argparse.Namespace) -> None:
    """Compare the networks of a study, or of a folder of recorded runs, and write study.json."""
    from locality_prior.report import tables
    from locality_prior.studies.files import FINDINGS
    from locality_prior.studies.findings import find

    directory = Path(options.directory)
    found = find(directory)
    tables.show(*tables.tables(found))
    done = sum(cell["measures"] is not None for cell in found["cells"])
    print(f"{directory / FINDINGS}: {done} of {len(found['cells'])} networks")


def _define_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", help="of a study, or a folder of run directories")


def _report(options: argparse.Namespace) -> None:
    """Write report.html and figures/ from what a directory holds."""
    from locality_prior import report
    from locality_prior.studies.files import FINDINGS
    from locality_prior.studies.findings import find

    directory = Path(options.directory)
    if not (directory / FINDINGS).exists():
        find(directory)
    print(report.write(directory))


def _define_prior(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sheets", nargs="+", metavar="SHEET", help="geometries such as 7x7, 64x64, or 7 for a line")
    parser.add_argument("--cost", default="linear", help="name[:length][@radius]")
    parser.add_argument("--out", default="prior.png", help="the picture: png, pdf or svg")


def _prior(options: argparse.Namespace) -> None:
    """Draw the signal that a sheet's centre and first unit receive, and say how many wires there are."""
    from locality_prior.report.prior import draw_priors

    for line in draw_priors(options.sheets, options.cost, Path(options.out)):
        print(line)


def _define_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="the rows to measure (default: all)")
    parser.add_argument("--device", default="cpu", help="where the layers compute: cpu, cuda …")
    parser.add_argument("--out", help="a JSON file for the figures")


def _bench(options: argparse.Namespace) -> None:
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
