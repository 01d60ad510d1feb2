"""The command line: quick help, one line for every error, and nothing begun that does not fit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_study import write_study
from test_findings import recorded as write_recorded
from tiny import MODEL, TASK

from locality_prior import cli
from locality_prior._check import Problem

HOME = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOME / "src")}
COMMANDS = ("reproduce", "study", "train", "analyse", "report", "figure", "open", "prior", "bench")
SMALL = ["--task", f"{TASK}:items=48", "--model", MODEL, "--epochs", "1", "--batch-size", "16"]


def program(*arguments: str, limit: float = 60, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own; ``code`` runs before it."""
    start = f"import sys\n{code}\nfrom locality_prior.cli import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        env={k: v for k, v in os.environ.items() if k != cli.DEBUG} | ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def here(*arguments: str, capture: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the program in this process: its exit status, and what it says on standard error."""
    capture.readouterr()
    try:
        status = cli.main(list(arguments))
    except SystemExit as error:
        status = int(error.code or 0)
    return status, capture.readouterr().err


def one_line(said: str) -> bool:
    return said.startswith("locality-prior: ") and said.count("\n") == 1 and len(said) < 900


# Help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_takes_under_half_a_second(command: str) -> None:
    """Of the processor, since this machine may be busy; and it imports nothing that takes long."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = program(
        *([command] if command else []),
        "--help",
        code="import atexit; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr))",
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said.returncode == 0
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    imported = {name.strip("'[] \n").partition(".")[0] for name in said.stderr.split(",")}
    assert "locality_prior" in imported
    assert not imported & {"torch", "numpy", "lightning_fabric", "matplotlib", "rich", "yaml", "scipy", "argcomplete"}
    assert all(len(line) <= 120 for line in said.stdout.splitlines())


def test_every_option_and_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli._parser()
    (commands,) = (action for action in parser._actions if action.dest not in ("help", "run"))
    assert tuple(commands.choices) == COMMANDS  # type: ignore[arg-type]
    for name, command in commands.choices.items():  # type: ignore[union-attr]
        assert command.description
        for action in command._actions:
            assert action.help, f"{name} {action.dest}"


def test_every_setting_of_a_study_has_a_flag() -> None:
    from dataclasses import fields

    from locality_prior.runs import Machine, Recipe
    from locality_prior.studies import Axes

    options = vars(cli._parser().parse_args(["study"]))
    assert {f.name for f in (*fields(Axes), *fields(Machine))} <= options.keys()
    assert tuple(cli.RECIPE) == tuple(f.name for f in fields(Recipe))
    assert {f.name: options[f.name] for f in fields(Machine)} == {f.name: f.default for f in fields(Machine)}


# Errors

BAD = [
    (
        ["study", "--cost", "flat", "--executor", "dask://"],
        "executor: got 'dask://', expected processes, or dask://host:port",
    ),
    (
        ["study", "--cost", "flat", "--executor", "dask://127.0.0.1:1"],
        "No Dask scheduler answers at dask://127.0.0.1:1",
    ),
    (["train", "--out", "OUT", "--accelerator", "tpu"], "accelerator: got tpu, expected one of cpu, cuda, mps, auto"),
    (
        ["reproduce", "digits", "--devices", "999999"],
        "devices: got 999999, expected auto, or from 1 to",
    ),
    (["study", "--cost", "flat", "--workers", "-1"], "workers: got -1, expected a whole number from 0 to"),
    (["study", "--cost", "flat", "--workers", "999999"], "workers: got 999999, expected a whole number from 0 to"),
    (["train", "--out", "OUT", "--nodes", "0"], "nodes: got 0, expected a whole number from 1 to"),
    (["study", "--batch-size", "0"], "batch_size: got 0, expected a whole number from 2 to"),
    (["study", "--cost", "flat", "--save-every", "nan"], "save_every: got nan, expected a finite number of at least 0"),
    (["study", "--model", "lenet:sheet=99999x99999"], "sheet: got 99999x99999, which is 9,999,800,001 units, expected"),
    (["study", "--seeds", "one"], "argument --seeds: invalid int value: 'one' (see locality-prior study --help)"),
    (["study", "--colour=red"], "unrecognized arguments: --colour=red"),
    (["study", "--exec", "processes"], "unrecognized arguments: --exec"),
    (["fly"], "invalid choice: 'fly'"),
    ([], "the following arguments are required: COMMAND"),
    (["train"], "the following arguments are required: --out"),
    (["reproduce", "alexnet"], "name: got 'alexnet', expected one of digits, imagenet, imagenet-small, mnist"),
    (["study", "nowhere.yaml"], "nowhere.yaml: got no such file, expected a file that can be read"),
    (["study", "--task", "nowhere.py:task"], "task: got "),
    (["study", "--cost", "lunar"], "cost: got 'lunar', expected name[:length"),
    (["train", "--out", "OUT", "--shuffled"], "shuffled: got True with the cost flat, expected a cost that depends"),
    (["analyse", "nowhere"], "nowhere is not a study: it holds neither plan.json nor directories of finished runs"),
    (["report", "nowhere"], "nowhere is not a study"),
    (["open", "nowhere"], "DIR: got nowhere, expected a directory with report.html"),
    (["prior", "7x7", "--out", "nowhere/prior.png"], "out: got nowhere/prior.png, expected a file in a directory"),
    (["prior", "99999x99999"], "got 99999x99999, which is 9,999,800,001 units, expected"),
    (["bench", "--out", "nowhere/x.json"], "out: got nowhere/x.json, expected a file in a directory that exists"),
    (["bench", "--only", "nothing"], "nothing"),
]


def test_open_shows_the_page_in_the_browser(tmp_path: Path) -> None:
    page = tmp_path / "a study" / "report.html"
    page.parent.mkdir()
    page.write_text("<!doctype html>", encoding="utf-8")
    quick = "import webbrowser\nwebbrowser.open = lambda address: print(address)\nsys.modules['torch'] = None"
    done = program("open", str(page.parent), code=quick)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(page), page.as_uri()]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=lambda value: " ".join(value)[:40] or "nothing")
def test_an_error_is_one_line_and_nothing_is_begun(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.delenv(cli.DEBUG, raising=False)
    start = time.monotonic()
    status, told = here(*arguments, capture=capsys)
    assert time.monotonic() - start < 30
    assert status == 2
    assert one_line(told), told
    assert said in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_process_has_its_status_and_no_traceback() -> None:
    done = program("study", "--accelerator", "tpu", "--out", "/dev/null/x")
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for given, environment in ((["--debug"], ""), ([], "1")):
        monkeypatch.setenv(cli.DEBUG, environment)
        status, told = here("reproduce", "x", *given, capture=capsys)
        assert status == 2
        assert told.startswith("Traceback")
        assert one_line(told.splitlines(keepends=True)[-1])
    for environment in ("", "0"):
        monkeypatch.setenv(cli.DEBUG, environment)
        status, told = here("reproduce", "x", capture=capsys)
        assert status == 2
        assert one_line(told)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue from the last saved state"),
        (Problem("It broke.\nSo mend it."), 2, "error: It broke. So mend it."),
        (OSError(28, "No space left on device"), 2, "error: the operating system: No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied"),
        (MemoryError(), 2, "error: this machine has not enough memory for this; try smaller sheets or batches"),
        (
            ModuleNotFoundError("no", name="scipy.stats"),
            2,
            "error: this command needs the package scipy.stats, which is not installed: "
            "pip install 'locality-prior[analysis]'",
        ),
        (
            ModuleNotFoundError("no", name="theirs"),
            2,
            "error: this command needs the package theirs, which is not installed",
        ),
        (KeyError("x"), 1, "unexpected KeyError: 'x' (--debug shows where it happened)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_status(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: Any) -> None:
        """Fail."""
        raise error

    monkeypatch.delenv(cli.DEBUG, raising=False)
    monkeypatch.setattr(cli, "_analyse", fail)
    assert here("analyse", "x", capture=capsys) == (status, f"locality-prior: {said}\n")


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("yaml", ["study", "--out", "x"], "experiments"),
        ("rich", ["study", "--out", "x"], "experiments"),
        ("scipy", ["analyse", "DIR"], "analysis"),
        ("matplotlib", ["prior", "3x3"], "plots"),
        ("jinja2", ["report", "DIR"], "experiments"),
        ("lightning_fabric", ["train", *SMALL, "--out", "x"], "experiments"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    missing: str, arguments: list[str], extra: str, tmp_path: Path
) -> None:
    write_study(tmp_path / "study", seeds=(1,))
    if arguments[0] == "analyse":
        (tmp_path / "study").rename(tmp_path / "made")
        recorded(tmp_path / "study")
    block = f"""
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Block())
import os; os.chdir({str(tmp_path)!r})"""
    done = program(*(str(tmp_path / "study") if word == "DIR" else word for word in arguments), code=block, limit=120)
    assert done.returncode == 2, done.stderr
    assert one_line(done.stderr), done.stderr
    assert missing in done.stderr
    assert f"locality-prior[{extra}]" in done.stderr


def recorded(directory: Path) -> None:
    """A folder of four recorded networks."""
    write_recorded(directory, {"control": 2, "mine": 2})


# Files that are not what they should be


def bomb(lines: int = 30) -> str:
    nested = "\n".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, lines))
    return f"a0: &a0 [x]\n{nested}\nseeds: *a{lines - 1}\n"


FILES = {
    "aliases": bomb(),
    "deep": "seeds: " + "[" * 5000,
    "deep JSON": '{"seeds": ' * 5000,
    "not YAML": "seeds: [1, 2",
    "not a mapping": "- 1\n- 2\n",
    "nothing": "",
    "null": "~",
    "binary": "\0\1\2",
    "tag": "seeds: !!python/object/apply:os.system ['touch hacked']",
    "twice": "seeds: 1\nseeds: 2\n",
    "wrong type": "seeds: {a: 1}\n",
    "wrong list": "also: 5\nrecipe: 5\n",
    "also of others": "also: [{cost: linear}, 5]\nrecipe: [1]\n",
    "unknown": "colour: red\n",
    "odd key": "? [1, 2]\n: 3\n",
    "text for paragraphs": "about: 5\nrecipe: {colour: red}\n",
    "a huge number": "seeds: 1" + "0" * 5000,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", [["study"], ["train", "--out", "out", "--config"]], ids=["study", "train"])
def test_a_bad_file_is_one_line(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.DEBUG, raising=False)
    (tmp_path / "file.yaml").write_text(FILES[name], encoding="utf-8")
    start = time.monotonic()
    status, told = here(*command, "file.yaml", capture=capsys)
    assert time.monotonic() - start < 20
    assert (status, one_line(told)) == (2, True), told
    assert [path.name for path in tmp_path.iterdir()] == ["file.yaml"]


@pytest.mark.parametrize("command", [["study"], ["train", "--out", "out", "--config"]], ids=["study", "train"])
def test_a_pipe_or_a_directory_is_no_file(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for name, what in (("pipe", "a named pipe"), (".", "a directory"), ("/dev/zero", "a device")):
        status, told = here(*command, name, capture=capsys)
        assert status == 2
        assert f"got {what}, expected a regular file" in told


def test_a_study_that_holds_damaged_files_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path)
    for name, text in (("plan.json", "[" * 9999), ("study.json", "[" * 9999)):
        (tmp_path / name).write_text(text)
        for command in ("analyse", "report"):
            status, told = here(command, str(tmp_path), capture=capsys)
            if status:
                assert (status, one_line(told)) == (2, True), told
        (tmp_path / name).unlink(missing_ok=True)


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(tmp_path, seeds=(1, 2))
    status, _ = here("report", str(tmp_path), capture=capsys)
    assert status == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "runs" not in path.parts}
    assert tmp_path / "report.html" in before
    (tmp_path / study["cells"][-1]["run"] / "measures.npz").write_bytes(b"damaged")
    status, told = here("report", str(tmp_path), capture=capsys)
    assert (status, one_line(told)) == (2, True), told
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "runs" not in path.parts}
    assert after == before


# Whole commands


def test_one_spelling_in_flags_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from locality_prior.studies import cells

    seen: list[Any] = []

    def stop(study: Any, directory: Path, *rest: Any, **machine: Any) -> Any:
        seen.append((study, directory))
        raise Problem("enough")

    monkeypatch.setattr(cells, "run_study", stop)
    monkeypatch.delenv(cli.DEBUG, raising=False)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "{task: digits, place: {input: 7x7}, cost: [linear, sqrt], lr: [1e-2, 0.1], also: [{lr: 1}, {model: sheets}]}"
    )
    cli.main(["study", str(file)])
    cli.main(
        ["study", str(file), "--lr", "0.1", "1e-2", "--cost", "linear:1", "--model", "lenet:sheet=5x5", "--seeds", "4"]
    )
    cli.main(["study", "--lr", "0.1", "1e-2", "--cost", "linear:1", "--model", "lenet:sheet=5x5", "--seeds", "4"])
    assert str(seen[0][1]) == "results/mine"
    assert seen[0][0].axes.place == (("input", ("7x7",)),)
    assert [axes.lr for axes in seen[0][0].also] == [(1.0,), (0.01, 0.1)]
    # an option holds for the whole study, and another model brings its own sheets
    assert set(seen[1][0].conditions().values()) == set(seen[2][0].conditions().values())
    assert seen[1][0].axes.place == ()


def test_a_study_from_flags_ends_in_a_page_and_odd_names_are_shown_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    claim = {"says": "It [red]rises[/x].", "measure": "accuracy", "expected": "higher", "condition": {"cost": "linear"}}
    text = {"title": "[red]One[/x]", "hypotheses": [claim], "task": f"{TASK}:items=48", "model": MODEL}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(text))
    arguments = ["study", "a.yaml", "--epochs", "1", "--batch-size", "16", "--seeds", "1", "--out", "out"]
    assert cli.main(arguments) == 0
    told = capsys.readouterr()
    assert "It [red]rises[/x]." in re.sub(r"\s+", " ", told.out)
    assert told.out.endswith("out/report.html\n")
    assert "2 of 2 networks" in told.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "[red]One[/x]" in page
    first = (tmp_path / "out" / "study.json").read_bytes()
    assert cli.main(["analyse", "out"]) == 0
    assert capsys.readouterr().out.endswith("out/study.json: 2 of 2 networks\n")
    assert (tmp_path / "out" / "study.json").read_bytes() == first
    status, said = here(*arguments[:-1], "out", "--lr", "0.5", capture=capsys)
    assert status == 2
    assert "out already holds control with seed 1, which this study leaves out" in said


def test_a_study_whose_networks_all_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from locality_prior.studies import cells

    monkeypatch.setattr(cells, "run_study", lambda study, *rest, **more: dict.fromkeys(study.runs(), "it broke"))
    status, _ = here("study", *SMALL, "--out", str(tmp_path / "out"), capture=capsys)
    assert status == 1
    assert not (tmp_path / "out").exists()


def test_one_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "one")
    assert cli.main(["train", *SMALL, "--cost", "linear@2", "--out", out]) == 0
    assert re.fullmatch(
        rf"{re.escape(out)}: loss [\d.]+, accuracy [\d.]+, noise_score [\d.]+, adversarial_score [\d.]+\n",
        capsys.readouterr().out,
    )
    assert cli.main(["train", "--config", f"{out}/config.yaml", "--out", out]) == 0
    status, told = here("train", "--config", f"{out}/config.yaml", "--seed", "2", "--out", out, capture=capsys)
    assert status == 2
    assert "holds another run: seed = 1 (asked: 2)" in told


def test_main_works_beside_the_main_thread_and_gives_signals_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    cli.main(["analyse", "nowhere"])
    assert signal.getsignal(signal.SIGTERM) is before
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(cli.main(["analyse", "nowhere"])))
    thread.start()
    thread.join()
    assert found == [2]


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    recorded(tmp_path / "runs")
    process = subprocess.Popen(
        [sys.executable, "-m", "locality_prior.cli", "analyse", str(tmp_path / "runs")],
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    process.wait(60)
    process.stderr.close()
    assert "Traceback" not in said
    assert process.returncode in (0, 1)


# Random command lines and files

OBJECTIVES = [
    "none", "none+none", "topoloss", "topoloss:", "topoloss:1e400", "topoloss:1,factor=1e400", "topoloss:1,factor=2,",
    "topoloss:0.5,1,factor=2", "topoloss:1,cosine=", "tica:1e-3+wiring:1e-4", "tica:1,radius=-1", "tica:1,epsilon=nan",
    "bimt:0.01,steps=0.25/0.5", "bimt:0.01,steps=1/0", "bimt:1,last=nowhere", "wiring:1,price=", "wiring:1,price=x",
    "wiring:1,price=linear:2/3", "wiring:1,price=linear@1", "wiring:1,power=3", "saturating:1,relative=maybe",
    "spatial_correlation:0.25,radius=0", "smoothness:1,ramp=2", "mask:2", "mask", "blur:0", "blur+mask+cbsom",
    "communicability:0.1,through=1", "bootphon:0", "topoloß:1", "topoloss:１", "tica++tica", "+tica", "tica+",
]  # fmt: skip
VALUES = [
    "", " ", "-", "--", "-1", "0", "1", "2.5", "1e-4", "1e400", "nan", "inf", "-inf", "9" * 30, "9" * 4000, "0x10",
    "one", "None", "true", "[]", "[1, 2]", "{a: 1}", "a=b", "=", "a=", "=7x7", "fc1=7x7", "input=7x7,7x7,7x7",
    "input=0x7", "input=-7x7", "input=99999x99999", "locality=7x7", "nowhere=7x7", "torus:7x7", "hex:7", "sphere:0",
    "7x", "x7", "7×7", "²x²", "flat", "linear", "linear:0", "linear:-1", "linear@", "linear@0", "linear@nan",
    "linear:1e999", "power:2", "power:1,2,3", "linear@3@4", "custom", "gaussian:1e-300", "lineardecay", "digits",
    "digits:", "digits:x=1", "digits:validation=2", "digits:validation=[", "digits:passes=0", "lenet",
    "lenet:sheet=0", "lenet:sheet=[7,", "lenet:sheet=7x7x7,classes=-1", "lenet:classes=1e9", "sheets:sizes=[]",
    "sheets:sizes=5", "sheets:sizes=[99999x99999]", "alexnet", "os:system", "os:getcwd", "sys:exit", "json:loads",
    "no.such.module:x", "nowhere.py:x", "/dev/null.py:x", "..:x", ":", "::", ":x", "x:", "a b", "mnist",
    "photographs", "object:thing", "[red]", "[/x]", "\x1b[31m", "\n", "\t", "ä", "雪", "\udcff", "../../x", "/",
    "/etc/passwd", "~", "*", "%s", "{}", "$HOME", "a" * 10_000, "sgd", "adam", "SGD", "32-true", "16", "cpu",
    "cuda:0", "auto", "processes", "dask", "dask://", "dask://x", "dask://x:y", "dask://x:99999999", "http://x:1",
    "tcp://x:1", "ddp", "fsdp", "True", "1_000", "+1", "0.0", "1,2", *OBJECTIVES,
]  # fmt: skip


def _random_line(rng: random.Random, flags: dict[str, list[str]]) -> list[str]:
    """A command line in which something does not fit, most of the time: much of it, or one or two words."""
    command = rng.choice(COMMANDS)
    words = [command]
    if rng.random() < 0.5 and command in ("study", "train", "reproduce"):
        words += {"study": [], "train": ["--out", "out"], "reproduce": ["digits"]}[command]
        words += [*SMALL, "--cost", "linear@2"]
        for flag in rng.choices([*flags[command], "--objective"], k=rng.choice([1, 1, 2])):
            words += [flag, rng.choice(OBJECTIVES if flag == "--objective" and rng.random() < 0.7 else VALUES)]
        return words
    if command in ("study", "reproduce", "analyse", "report", "prior") and rng.random() < 0.8:
        words += rng.choices([*VALUES, "digits", "7x7"], k=rng.choice([1, 1, 1, 2]))
    for flag in rng.sample(flags[command], k=rng.randint(0, min(4, len(flags[command])))):
        words += [flag, *rng.choices(VALUES, k=rng.choice([0, 1, 1, 1, 1, 2, 3]))]
    return words


def _random_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if kind < 0.6 or depth > 2:
        return rng.choice([*VALUES[:120], None, True, 0, 1, -1, 0.5, 10**30, 1e300, [], {}])
    if kind < 0.8:
        return [_random_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return {rng.choice([*SETTINGS, *VALUES[:40]]): _random_value(rng, depth + 1) for _ in range(rng.randint(0, 3))}


SETTINGS = [
    "task", "model", "place", "local", "seeds", "cost", "shuffled", "scale", "objective", *cli.RECIPE, "also", "about",
    "hypotheses", "title", "published", "recipe", "says", "measure", "expected", "condition", "control", "margin",
    "name", "measures",
]  # fmt: skip


def _random_file(rng: random.Random, study: bool) -> Any:
    """The values of a file, most of them at random, or one or two of a good one's."""
    if rng.random() < 0.3:
        return {rng.choice(SETTINGS): _random_value(rng) for _ in range(rng.randint(1, 5))}
    claim = {
        "says": "It falls.",
        "measure": "loss",
        "expected": "lower",
        "condition": {"cost": "linear@2"},
        "margin": 0,
    }
    values: dict[str, Any] = {
        "task": f"{TASK}:items=48",
        "model": MODEL,
        "cost": "linear@2",
        "place": {"output": "4x4"},
    }
    values["local"] = {"middle": "4x4"}
    if rng.random() < 0.4:
        values["objective"] = rng.choice(OBJECTIVES)
    if study:
        values |= {"lr": [0.1, 0.2], "epochs": 1, "batch_size": 16, "also": [{"lr": 0.3}], "hypotheses": [claim]}
        values |= {"published": [{"name": "a", "source": "b", "measures": {"accuracy": 98}}], "title": "t", "about": []}
    else:
        values |= {"seed": 1, "shuffled": False, "recipe": {"lr": 0.1, "epochs": 1, "batch_size": 16}}
    for _ in range(rng.choice([1, 1, 2])):
        at: Any = values
        while isinstance(at, (dict, list)) and at:
            key = rng.choice([*at] if isinstance(at, dict) else range(len(at)))
            if not isinstance(at[key], (dict, list)) or not at[key] or rng.random() < 0.3:
                at[key] = _random_value(rng)
                break
            at = at[key]
        if rng.random() < 0.2:
            values[rng.choice(SETTINGS)] = _random_value(rng)
    return values


class Trained(BaseException):
    """A command line got as far as training."""


@contextlib.contextmanager
def guarded(monkeypatch: pytest.MonkeyPatch, at: Path) -> Iterator[None]:
    """A block in which a command may check everything, and begins nothing that takes long or leaves this folder."""
    from locality_prior import bench
    from locality_prior.report import prior
    from locality_prior.runs import machine, training
    from locality_prior.studies import cells

    def trained(*_: Any, **__: Any) -> Any:
        raise Trained

    with monkeypatch.context() as patch:
        patch.chdir(at)
        patch.setenv("LOCALITY_PRIOR_DATA", str(at / "no data"))
        patch.delenv(cli.DEBUG, raising=False)
        patch.setattr(cells, "alone_in", trained)
        patch.setattr(cells, "_one_by_one", trained)
        patch.setattr(training, "alone_in", trained)
        patch.setattr(machine, "fabric", trained)
        patch.setattr(bench, "ROWS", dict.fromkeys(bench.ROWS, trained))
        patch.setattr(prior.Figure, "savefig", lambda self, file, **_: Path(file).touch())
        patch.setattr(cli, "_import_report", lambda: None)
        yield


def _try(arguments: list[str]) -> str:
    """What a command line comes to: "" where it is fine, else what is wrong with how its error is told."""
    out, err = io.StringIO(), io.StringIO()
    status: Any = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = cli.main(arguments)
    except SystemExit as error:
        status = error.code or 0
    except Trained:
        return ""
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    said = err.getvalue()
    if status == 0:
        return ""
    return "" if status == 2 and one_line(said) and "unexpected " not in said[:28] else f"{status}: {said}"


def _trial(number: int, at: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """``number`` random command lines and study files, half each; those that are told badly."""
    (commands,) = (action for action in cli._parser()._actions if action.dest not in ("help", "run"))
    flags = {
        name: [
            flag
            for action in command._actions
            for flag in action.option_strings
            if flag.startswith("--") and flag not in ("--help", "--executor")
        ]
        for name, command in commands.choices.items()  # type: ignore[union-attr]
    }
    bad = []
    with guarded(monkeypatch, at):
        for k in range(number):
            rng = random.Random(k)
            if k % 2:
                arguments = _random_line(rng, flags)
            else:
                file = at / "file.yaml"
                study = rng.random() < 0.7
                values = _random_file(rng, study)
                text = json.dumps(values) if rng.random() < 0.3 else yaml.safe_dump(values, allow_unicode=False)
                if rng.random() < 0.1:
                    text = text[: rng.randrange(len(text))]
                file.write_text(text, encoding="utf-8", errors="surrogateescape")
                arguments = ["study", "file.yaml"] if study else ["train", "--out", "out", "--config", "file.yaml"]
            told = _try(arguments)
            if told:
                bad.append(f"{k} {arguments!r:.300}: {told[:600]}")
    return bad


def test_two_hundred_random_command_lines_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _trial(200, tmp_path, monkeypatch) == []


@pytest.mark.slow
def test_a_thousand_random_command_lines_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _trial(1000, tmp_path, monkeypatch) == []
