"""The command line: ``locality-prior reproduce | study | train | analyse | report | figure | open | prior | bench``.

Every setting has the name that it has in a study file and in Python, with hyphens for underscores. What takes long to
import is imported only by the command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from locality_prior._check import DEBUG, Told, debugging, short, wrong

PROGRAM = "locality-prior"

DATA_ROOT = "the folder with the data, for tasks that read one (default: the value of LOCALITY_PRIOR_DATA)"
WORDS = """\
how to write a task, a model, a cost, an objective, an arrangement and a geometry:
  task, model   [MODULE or FILE.py:]NAME[:key=value,...], such as nets.py:mlp:width=256
                built in: tasks digits, mnist, photographs and text; models lenet, alexnet, sheets and gpt
  cost          NAME[:LENGTH][@RADIUS], such as flat, linear, exponential:2 or linear@3 (no wires beyond distance 3)
  objective     NAME[:STRENGTH][,OPTION=VALUE...], such as topoloss:0.5 or spatial_correlation:0.25,ramp=0.1
                several are joined by +; a study takes several strengths, such as topoloss:0.5,2
  arrangement   wires or responses, then :before[,epochs=N], :during[,every=STEPS] or :after, such as wires:after;
                or learned[:lr=RATE,apart=STRENGTH]
  geometry      32x32, 49 (a line), torus:32x32, hex:20x24 or sphere:500
                a layer may have two, source and target: fc2=28x28,32x32"""

#: What the main help ends with.
EPILOG = f"""\
Begin with: {PROGRAM} reproduce digits. {PROGRAM} COMMAND --help explains a command.
--debug, or {DEBUG}=1, shows the traceback of an error.

exit status:
  0    everything was done
  1    networks failed, each for the reason that is given, or something unforeseen happened
  2    the command cannot be carried out: one line says why, and what to do
  130  interrupted by Ctrl-C or SIGTERM
After 1 and 130, the same command goes on from the last saved state."""

#: The flags of a recipe: name → (type, help).
RECIPE: dict[str, tuple[Any, str]] = {
    "optimizer": (str, "sgd, rmsprop, adam or adamw"),
    "lr": (str, "learning rate"),
    "momentum": (str, "momentum of sgd and rmsprop"),
    "weight_decay": (str, "weight decay (L2) of all parameters"),
    "epochs": (int, "number of epochs"),
    "batch_size": (int, "items in a batch, over all devices together"),
    "l1": (str, "λ of the penalty λ‖W‖₁ on the weights of local layers"),
    "drop_every": (int, "divide the learning rate by ten after every X epochs; 0: never"),
    "precision": (str, "32-true, 16-mixed or bf16-mixed"),
}
#: What --quiet leaves of a command's output, where there is something to leave out.
QUIET = {
    **dict.fromkeys(("reproduce", "study"), "print only the path of the page, and the networks that fail"),
    "train": "print only the network's results",
    "analyse": "print only the path of study.json",
    "bench": "print only the path of --out, or without one the table",
}
#: The packages that are not needed everywhere, and the extra that installs each.
EXTRAS = {
    "argcomplete": "completion",
    "distributed": "cluster",
    "matplotlib": "plots",
    "networkx": "analysis",
    **dict.fromkeys(("nilearn", "pygeodesic"), "surfaces"),
    "scipy": "analysis",
    **dict.fromkeys(
        ("PIL", "jinja2", "lightning_fabric", "rich", "sklearn", "tensorboard", "torchvision", "yaml"), "experiments"
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0; 1 where networks failed or something unforeseen happened; 2 where one line says what the
        caller can do about it; 130 when interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if "--debug" in given:
        os.environ[DEBUG] = "1"  # for the processes that train networks, too
    try:
        with _polite():
            parser = _parser()
            if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next
                import argcomplete

                argcomplete.autocomplete(parser)
            options = parser.parse_args([word for word in given if word != "--debug"])
            run: Callable[[argparse.Namespace], int | None] = options.run
            return run(options) or 0
    except KeyboardInterrupt:
        return _end("interrupted; run the same command again to continue from the last saved state", 130)
    except BrokenExecutor:
        return _end("a worker process was killed; run the same command again to continue from the last saved state", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the output has left
        return 1
    except Exception as error:
        if debugging():
            traceback.print_exc()
        return _told(error)


@contextmanager
def _polite() -> Iterator[None]:
    """A block in which SIGTERM, a polite kill, is the same as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signals
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(error: Exception) -> int:
    """Report an error in one line."""
    if isinstance(error, Told):
        return _end(f"error: {error}", 2)
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = EXTRAS.get(error.name.partition(".")[0])
        hint = "" if extra is None else f": pip install 'locality-prior[{extra}]'"
        return _end(f"error: this command needs the package {error.name}, which is not installed{hint}", 2)
    if isinstance(error, OSError) and error.strerror:
        return _end(f"error: {error.filename or 'the operating system'}: {error.strerror}", 2)
    if isinstance(error, MemoryError) or "not enough memory" in str(error) or "out of memory" in str(error):
        return _end("error: this machine has not enough memory for this; try smaller sheets or batches", 2)
    return _end(f"unexpected {type(error).__name__}: {error} (--debug shows where it happened)", 1)


def _end(message: str, status: int) -> int:
    print(f"{PROGRAM}: {short(message, 600)}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{PROGRAM}: error: {short(message, 600)} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="Train spatially embedded neural networks beside their controls, measure both, and see the maps.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, define, run, usage in (
        ("reproduce", _define_reproduce, _reproduce, "NAME [options]"),
        ("study", _define_study, _study, "[FILE.yaml] [options]"),
        ("train", _define_train, _train, "--out DIR [options]"),
        ("analyse", _define_directory, _analyse, "DIR"),
        ("report", _define_directory, _report, "DIR"),
        ("figure", _define_figure, _figure, "DIR [NAME] [options]"),
        ("open", _define_directory, _open, "DIR"),
        ("prior", _define_prior, _prior, "SHEET [SHEET ...] [options]"),
        ("bench", _define_bench, _bench, "[options]"),
    ):
        said = inspect.cleandoc(run.__doc__ or "")
        command = commands.add_parser(
            name,
            help=said.splitlines()[0],
            usage=f"{PROGRAM} {name} {usage}",
            description=said,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=WORDS if name in ("reproduce", "study", "train") else None,
            allow_abbrev=False,
        )
        define(command)
        if name in QUIET:
            command.add_argument("--quiet", action="store_true", help=QUIET[name])
        command.set_defaults(run=run)
    return parser


# One study


def _define_reproduce(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="digits (needs no download), mnist, imagenet or imagenet-small")
    _define_axes(parser)


def _reproduce(options: argparse.Namespace) -> int:
    """Run a built-in study, such as digits: train its networks, compare them and write the page.

    The options below change its settings. Run an interrupted study again to continue it.
    """
    from locality_prior import catalog

    if options.name not in catalog.studies():
        raise wrong("name", repr(options.name), f"one of {', '.join(catalog.studies())}")
    return _run_study(catalog.STUDIES / f"{options.name}.yaml", options)


def _define_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE.yaml",
        help="a study file: the settings below by name, with _ for -, and more (see docs/howto/studies.md)",
    )
    _define_axes(parser)


def _study(options: argparse.Namespace) -> int:
    """Train networks with every combination of some settings, compare them and write the page.

    Settings come from the file, from the options, or from both; an option replaces the file's setting. Run an
    interrupted study again to continue it. A study runs the Python code that its tasks and models name.
    """
    return _run_study(None if options.file is None else Path(options.file), options)


def _define_axes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings (each takes one value or several, and all are combined)")
    group.add_argument("--task", nargs="+", metavar="TASK", help="what is learned")
    group.add_argument("--model", nargs="+", metavar="MODEL", help="the network")
    group.add_argument("--seeds", type=int, nargs="+", metavar="N", help="train a network of each condition per seed")
    group.add_argument("--cost", nargs="+", metavar="COST", help="wiring costs; the control, flat, is always included")
    group.add_argument("--shuffled", nargs="*", metavar="COST", help="costs to train with shuffled wires as well")
    group.add_argument("--scale", nargs="+", metavar="X", help="factors for the lengths in the costs")
    group.add_argument(
        "--objective", nargs="+", metavar="OBJECTIVE", help="what is added to the loss, each a condition of its own"
    )
    group.add_argument(
        "--arrange",
        nargs="+",
        metavar="ARRANGEMENT",
        help="what better places for units are found from, and when; each with every cost and objective (none: stay)",
    )
    for name, (kind, said) in RECIPE.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", metavar="X", help=said)
    _define_sheets(parser)
    group = parser.add_argument_group("files")
    group.add_argument(
        "--out", metavar="DIR", help="where networks and page are kept (default: results/ and the name of the study)"
    )
    group.add_argument("--data-root", metavar="DIR", help=DATA_ROOT)
    _define_machine(parser)


def _define_sheets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sheets (default: those of the model)")
    group.add_argument(
        "--place",
        nargs="+",
        metavar="MODULE=GEOMETRY",
        help="modules to measure, and where their units lie: fc1=32x32 fc2=32x32",
    )
    group.add_argument(
        "--local",
        nargs="+",
        metavar="LAYER=GEOMETRY",
        help="layers that get the cost (default: the model's own, unless --place is given; else every placed layer "
        "that can be made local)",
    )


def _run_study(file: Path | None, options: argparse.Namespace) -> int:
    from dataclasses import fields

    from locality_prior._files import read_yaml
    from locality_prior._processes import cluster

    values = {} if file is None else read_yaml(file)
    if not isinstance(values, dict):
        raise wrong(str(file), values, "a study file: settings by name")

    from locality_prior.studies.cells import run_study
    from locality_prior.studies.findings import find
    from locality_prior.studies.study import Axes, beside, study_from

    if file is None and all(getattr(options, f.name) is None for f in fields(Axes)):
        raise wrong("study", "neither a file nor a setting", "a study's file, or settings such as --task and --model")
    flags = {f.name: getattr(options, f.name) for f in fields(Axes) if getattr(options, f.name) is not None}
    also = values.get("also")
    if isinstance(also, list):  # an option holds for the whole study
        also = [beside(one, flags) if isinstance(one, dict) else one for one in also]
        values = {**values, "also": also}
    study = study_from(beside({"task": "digits", "model": "lenet", **values}, flags))
    directory = Path(options.out or f"results/{'study' if file is None else file.stem}")
    machine = _machine(options)
    # importing what the page needs takes seconds, which pass while networks are trained
    threading.Thread(target=_import_report, daemon=True).start()
    with cluster(options.executor) as executor:
        errors = run_study(study, directory, options.data_root, executor, machine=machine, quiet=options.quiet)
    if _first() and len(errors) < len(study.runs()):
        find(directory, errors)
        _show(directory, options.quiet)
    return 1 if errors else 0


def _first() -> bool:
    from locality_prior.runs.machine import first

    return first()


def _import_report() -> None:
    with suppress(ImportError):  # which is reported where the page is written
        import locality_prior.report.page  # noqa: F401


def _show(directory: Path, quiet: bool) -> None:
    from locality_prior import report
    from locality_prior.report import tables
    from locality_prior.studies.findings import read_findings

    page = report.write(directory)
    if not quiet:
        tables.show(*tables.tables(read_findings(directory)))
    print(page)


def _define_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="DIR", help="where the network is kept")
    parser.add_argument(
        "--config", metavar="FILE.yaml", help="settings by name, such as the config.yaml of another network"
    )
    group = parser.add_argument_group("settings")
    group.add_argument("--task", metavar="TASK", help="what is learned (default: digits)")
    group.add_argument("--model", metavar="MODEL", help="the network (default: lenet)")
    group.add_argument("--cost", metavar="COST", help="the wiring cost (default: flat, which is none)")
    group.add_argument(
        "--shuffled", action="store_true", default=None, help="shuffle the costs among each unit's wires"
    )
    group.add_argument("--objective", metavar="OBJECTIVE", help="what is added to the loss (default: none)")
    group.add_argument(
        "--arrange", metavar="ARRANGEMENT", help="what better places for units are found from, and when (default: none)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed of all that is random (default: 1)")
    for name, (kind, said) in RECIPE.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=said)
    _define_sheets(parser)
    parser.add_argument("--data-root", metavar="DIR", help=DATA_ROOT)
    _define_machine(parser, executor=False)


def _train(options: argparse.Namespace) -> None:
    """Train one network and measure it.

    Run an interrupted command again to continue it.
    """
    import torch
    from rich.console import Console

    from locality_prior._files import read_yaml
    from locality_prior.runs.config import Recipe, Run, condition_of
    from locality_prior.runs.files import read_analysis
    from locality_prior.runs.training import train
    from locality_prior.studies.progress import Progress

    names = ("task", "model", "cost", "shuffled", "place", "local", "objective", "arrange", "seed")
    given = {} if options.config is None else read_yaml(Path(options.config))
    values = _settings(options.config, given, (*names, "recipe"))
    recipe = _settings(options.config, values.pop("recipe", {}), tuple(RECIPE))
    values |= {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    recipe |= {name: getattr(options, name) for name in RECIPE if getattr(options, name) is not None}
    run = Run(**{"task": "digits", "model": "lenet", **values, "recipe": Recipe(**recipe)})
    machine = _machine(options)
    if machine.alone:
        torch.set_num_threads(1)  # quicker than two for small networks
    key, quiet = (condition_of(run), run.seed), options.quiet or not _first()
    with Progress(Console(stderr=True), {key: (run, Path(options.out))}, quiet=quiet) as shown:

        def tick(epoch: int, share: float) -> None:
            shown.running({key: epoch - 1 + share})

        writes = train(run, Path(options.out), options.data_root, machine, tick)
        shown.ended(key)
    if writes:
        told = {k: v for k, v in read_analysis(Path(options.out))["measures"].items() if "." not in k and v is not None}
        print(f"{options.out}: " + ", ".join(f"{name} {value:.4g}" for name, value in told.items()))


def _settings(file: str, values: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """``values``, from a file, where they are settings among ``known``."""
    if not isinstance(values, dict):
        raise wrong(file, values, f"settings by name: {', '.join(known)}")
    for key in values:
        if key not in known:
            raise wrong(file, f"a setting {short(repr(key))}", f"settings among {', '.join(known)}")
    return dict(values)


def _define_machine(parser: argparse.ArgumentParser, executor: bool = True) -> None:
    group = parser.add_argument_group("where networks are computed")
    if executor:
        group.add_argument(
            "--executor",
            default="processes",
            metavar="WHERE",
            help="processes (default): networks side by side on this machine's cores; dask://HOST:PORT: on a cluster",
        )
    group.add_argument("--accelerator", default="cpu", metavar="NAME", help="cpu (default), cuda, mps or auto")
    group.add_argument("--devices", default="1", metavar="N", help="devices per node, or auto (default: 1)")
    group.add_argument("--nodes", type=int, default=1, metavar="N", help="nodes (default: 1)")
    group.add_argument("--strategy", default="auto", metavar="NAME", help="for several devices: ddp (default) or fsdp")
    group.add_argument("--sync-batchnorm", action="store_true", help="BatchNorm over all devices together (GPUs)")
    group.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    group.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that read photographs (default: 0)"
    )
    group.add_argument("--skip-broken", action="store_true", help="leave out and count photographs that are damaged")
    group.add_argument(
        "--save-every", type=float, default=300.0, metavar="S", help="seconds between saved states (default: 300)"
    )


def _machine(options: argparse.Namespace) -> Any:
    from dataclasses import fields

    from locality_prior.runs.machine import Machine

    return Machine(**{field.name: getattr(options, field.name) for field in fields(Machine)})


# What is there already


def _define_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a study's directory, or a folder of recorded networks")


def _analyse(options: argparse.Namespace) -> None:
    """Compare trained networks, print the results and write study.json."""
    from locality_prior.report import tables
    from locality_prior.studies.files import FINDINGS
    from locality_prior.studies.findings import find

    directory = Path(options.directory)
    found = find(directory)
    if not options.quiet:
        tables.show(*tables.tables(found))
    done = sum(cell["measures"] is not None for cell in found["cells"])
    print(f"{directory / FINDINGS}: {done} of {len(found['cells'])} networks")


def _report(options: argparse.Namespace) -> None:
    """Write the page (report.html) and figures of trained networks."""
    from locality_prior import report

    print(report.write(_found(options.directory)))


def _found(directory: str) -> Path:
    """The directory of a study, after its networks are compared if they are not yet."""
    from locality_prior.studies.files import FINDINGS
    from locality_prior.studies.findings import find

    path = Path(directory)
    if not (path / FINDINGS).exists():
        find(path)
    return path


def _define_figure(parser: argparse.ArgumentParser) -> None:
    _define_directory(parser)
    parser.add_argument("name", nargs="?", metavar="NAME", help="such as training (default: list the names)")
    parser.add_argument(
        "--width", type=float, metavar="MM", help="millimetres, such as 85 for a column (default: as on the page)"
    )
    parser.add_argument("--out", default=".", metavar="FOLDER", help="where to write (default: the current folder)")


def _figure(options: argparse.Namespace) -> None:
    """Redraw a figure of a study's page for print: NAME.pdf, with selectable text, and NAME.png.

    Panels, labels and the legend are laid out for the width; text keeps its size. Fonts, sizes and line widths are
    those of your matplotlibrc. Without NAME, the names of all figures are listed.
    """
    from locality_prior.report import figures

    directory = _found(options.directory)
    if options.name is None:
        print(*figures.names(directory), sep="\n")
    else:
        print(*figures.write(directory, options.name, options.width, Path(options.out)), sep="\n")


def _open(options: argparse.Namespace) -> None:
    """Open the page of a study in the browser, and print its path."""
    import webbrowser

    from locality_prior.studies.files import PAGE

    page = Path(options.directory) / PAGE
    if not page.is_file():
        raise wrong("DIR", options.directory, f"a directory with {PAGE}, which `{PROGRAM} report` writes")
    print(page)
    webbrowser.open(page.resolve().as_uri())


def _define_prior(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sheets", nargs="+", metavar="SHEET", help="geometries, such as 7x7, 64x64 or 7 (a line)")
    parser.add_argument("--cost", default="linear", help="such as linear, exponential:2 or linear@3 (default: linear)")
    parser.add_argument("--out", default="prior.png", metavar="FILE", help="png, pdf or svg (default: prior.png)")


def _prior(options: argparse.Namespace) -> None:
    """Draw the signal that two units of each sheet receive from its units, and count the wires."""
    from locality_prior.report.prior import draw_priors

    for line in draw_priors(options.sheets, options.cost, Path(options.out)):
        print(line)


def _define_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="rows of the table (default: all)")
    parser.add_argument("--device", default="cpu", help="a torch device, such as cuda (default: cpu)")
    parser.add_argument("--out", metavar="FILE", help="a JSON file for the numbers")


def _bench(options: argparse.Namespace) -> None:
    """Time the layers against plain torch, as ratios: above 1, ours is faster."""
    from rich.console import Console

    from locality_prior import bench
    from locality_prior.report import tables

    out = None if options.out is None else Path(options.out)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise wrong("out", str(out), "a file in a directory that exists")
    said = Console(stderr=True, quiet=options.quiet)
    with said.status("measuring …") as status:

        def tell(row: bench.Row) -> None:
            status.update(f"{row.name}: {row.ratio:.2f}×; going on …")
            if not said.is_terminal:
                said.print(f"{row.name} {row.ratio:.2f}")

        rows = bench.bench(options.only, options.device, tell)
    if out is None or not options.quiet:
        tables.show(bench.table(rows), prose="detail")
    if out is not None:
        bench.write(rows, out, options.device)
        print(out)


if __name__ == "__main__":
    sys.exit(main())
