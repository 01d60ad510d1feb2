"""What the commands say while they work, what --quiet leaves of it, and the status that they exit with."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from study_jobs import HERE as JOBS
from test_cli import ENVIRONMENT, HOME, program
from test_findings import recorded
from tiny import MODEL, TASK

from locality_prior import cli
from locality_prior._processes import read_progress
from locality_prior.runs import Machine, Recipe, Run, training
from locality_prior.studies import progress
from locality_prior.studies.progress import Key, Progress

PATHS = {"PYTHONPATH": os.pathsep.join([str(HOME / "src"), str(HOME / "tests")])}  # for the networks of study_jobs
SMALL = ["--task", f"{TASK}:items=48", "--epochs", "2", "--batch-size", "16"]
SLOW = ["--model", f"{JOBS}:slow:seconds=1.2"]
COLUMNS = r"network +epoch +loss +(score|accuracy) +time left"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


# The table and the lines


def networks(at: Path, number: int, epochs: int = 10) -> dict[Key, tuple[Run, Path]]:
    run = Run("mine", "mine", recipe=Recipe(epochs=epochs))
    return {("linear@2", seed): (run, at / str(seed)) for seed in range(number)}


def write_metrics(home: Path, epochs: int, score: str = "validation_accuracy") -> None:
    home.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{epoch},9,{1 / epoch},{90 + epoch / 10}\n" for epoch in range(1, epochs + 1))
    (home / "metrics.csv").write_text(f"epoch,train_loss,validation_loss,{score}\n{rows}")


def lines(shown: Progress, width: int = 100) -> list[str]:
    """The table as it is printed."""
    console = Console(file=io.StringIO(), width=width)
    console.print(shown.table())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def in_a_log(made: dict[Key, tuple[Run, Path]], found: int = 0, quiet: bool = False) -> Progress:
    return Progress(Console(file=io.StringIO(), width=40), made, found, quiet)


def said(shown: Progress) -> list[str]:
    text: str = shown.console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


class Clock:
    """A clock that goes on when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


def test_a_row_has_epoch_loss_score_and_the_time_left(tmp_path: Path, clock: Clock) -> None:
    shown = in_a_log(networks(tmp_path, 4), found=1)
    shown.running({("linear@2", 0): 0.0})
    assert re.fullmatch(r"linear@2 · seed 0 +1 of 10", lines(shown)[2])
    clock.now += 8
    write_metrics(tmp_path / "0", 4)
    shown.running({("linear@2", 0): 4.5, ("linear@2", 1): 6.0})  # the second one is resumed
    table = lines(shown)
    assert re.fullmatch(r"network +epoch +loss +accuracy +time left", table[0])
    assert re.fullmatch(r"linear@2 · seed 0 +5 of 10 +0\.2500 +90\.40 +10 s", table[2])  # 5.5 epochs, 4.5 in 8 s
    assert re.fullmatch(r"linear@2 · seed 1 +6 of 10", table[3])  # not known yet
    clock.now += 100
    shown.running({("linear@2", 0): 5.0, ("linear@2", 1): 7.0})
    assert re.search(r"7 of 10 +5 min", lines(shown)[3])  # 3 epochs, and the only one since then took 100 s
    shown.running({})
    clock.now += 100
    shown.running({("linear@2", 0): 10.0})
    assert lines(shown)[2].endswith("measuring")
    write_metrics(tmp_path / "0", 10)
    shown.ended(("linear@2", 0))
    shown.ended(("linear@2", 1), "It broke.")
    table = lines(shown)
    assert re.fullmatch(r"linear@2 · seed 0 +10 of 10 +0\.1000 +91\.00 +done", table[2])
    assert re.fullmatch(r"linear@2 · seed 1 +7 of 10 +failed", table[3])
    # 1.1 networks were trained in 208 s, and one is left
    assert table[4] == "2 of 4 networks · 1 failed · 3 min left"


def test_what_comes_before_the_first_step_is_not_taken_for_training(tmp_path: Path, clock: Clock) -> None:
    shown = in_a_log(networks(tmp_path, 2))
    shown.running({})
    clock.now += 1000
    shown.running({("linear@2", 0): 1.0})
    clock.now += 10
    shown.running({("linear@2", 0): 2.0})
    assert lines(shown)[-1] == "0 of 2 networks · 1 running · 0 failed · 3 min left"  # 1.8 networks, 0.1 in 10 s


def test_hundreds_of_networks_fit_on_the_screen(tmp_path: Path, clock: Clock) -> None:
    made = networks(tmp_path, 400)
    for height, most in ((60, progress.ROWS), (10, 6), (3, 1)):
        shown = Progress(Console(file=io.StringIO(), width=80, height=height), made)
        for seed in range(100):
            shown.ended(("linear@2", seed))
        assert len(lines(shown)) == most + 3
        shown.running({("linear@2", seed): 0.5 for seed in range(100, 102)})
        assert [line.split()[3] for line in lines(shown)[2:-1]][-2:] == ["100", "101"][: min(most, 2)]
        clock.now += 10
        shown.running({("linear@2", seed): 0.5 for seed in range(100, 300)})
        assert len(lines(shown)) == most + 3
        assert lines(shown)[-1].startswith("100 of 400 networks · 200 running · 0 failed")


def test_a_long_or_hostile_name_takes_one_row(tmp_path: Path) -> None:
    run = Run("mine", "mine", recipe=Recipe(epochs=10))
    shown = in_a_log({("a\x1b[2J[red]\n" + 90 * "x", 1): (run, tmp_path)})
    shown.ended(next(iter(shown.networks)), "\x1b]0;title\x07 [/x]")
    assert len(lines(shown, width=60)) == 4
    assert re.fullmatch(r"a \[2J\[red\] x+… +1 of 10 +failed", lines(shown, width=60)[2])
    assert said(shown)[1:] == [f"failed: a [2J[red] {90 * 'x'} · seed 1 ·  ]0;title  [/x]"]


@pytest.mark.parametrize(
    "text", ["", "epoch\n", "epoch,validation_loss\n1", "a,b\n1,2\n", "\0", "epoch,validation_loss\nx,y\n"]
)
def test_a_table_of_epochs_that_is_not_whole_is_waited_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "metrics.csv").write_text(text)
    shown = in_a_log(networks(tmp_path, 1))
    shown.running({("linear@2", 0): 3.5})
    assert re.fullmatch(r"linear@2 · seed 0 +4 of 10", lines(shown)[2])


def test_scores_of_other_names(tmp_path: Path) -> None:
    shown = in_a_log(networks(tmp_path, 2))
    write_metrics(tmp_path / "0", 3, "validation_recall")
    shown.running({("linear@2", 0): 3.5})
    assert lines(shown)[0].split() == ["network", "epoch", "loss", "recall", "time", "left"]
    write_metrics(tmp_path / "1", 3)
    shown.ended(("linear@2", 1))
    assert lines(shown)[0].split() == ["network", "epoch", "loss", "score", "time", "left"]
    assert "· loss 0.3333 · accuracy 90.30 · 1 of 2 networks" in said(shown)[-1]


def test_a_log_has_a_line_for_each_network_and_is_never_silent_for_long(tmp_path: Path, clock: Clock) -> None:
    with in_a_log(networks(tmp_path, 2)) as shown:
        assert said(shown) == []  # an error before training is alone on its line
        shown.running({})
        for step in range(70):
            clock.now += 10
            if step == 50:
                write_metrics(tmp_path / "0", 2)
            shown.running({("linear@2", 0): step / 20})
        shown.ended(("linear@2", 0))
        expected = [
            "0 of 2 networks · 0 failed",
            "linear@2 · seed 0 · epoch 3 of 10 · loss 0.5000 · accuracy 90.20 · "
            "0 of 2 networks · 1 running · 0 failed · 57 min left",
            "linear@2 · seed 0 · epoch 10 of 10 · loss 0.5000 · accuracy 90.20 · "
            "1 of 2 networks · 0 failed · 12 min left",
        ]
        assert said(shown) == expected


def test_quiet_leaves_the_failures(tmp_path: Path) -> None:
    with in_a_log(networks(tmp_path, 2), quiet=True) as shown:
        shown.running({("linear@2", 0): 0.5})
        shown.ended(("linear@2", 0))
        shown.ended(("linear@2", 1), "It broke.")
    assert said(shown) == ["failed: linear@2 · seed 1 · It broke."]


def test_the_end_of_training_is_told_however_quick_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(
        run: Run, directory: Path, root: None, machine: Machine, tick: Callable[[int, float], None], label: str
    ) -> None:
        for epoch in range(1, 11):
            tick(epoch, 0.5)
            tick(epoch, 1.0)

    monkeypatch.setattr(training, "train", train)
    training.job(Run("mine", "mine", recipe=Recipe(epochs=10)), str(tmp_path), None)
    assert read_progress(tmp_path / "progress.json") == 10.0


@pytest.mark.slow
def test_a_notebook_has_one_table_that_changes(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    code = f"""
import sys
sys.path[:0] = {[str(HOME / "src"), str(HOME / "tests")]!r}
from pathlib import Path
from rich.console import Console
from locality_prior.studies import progress
from test_cli_output import networks
progress.DRAW = 0
with progress.Progress(Console(stderr=True), networks(Path({str(tmp_path)!r}), 20)) as shown:
    for seed in range(20):
        for step in range(5):
            shown.running({{("linear@2", seed): 2.0 * step}})
        shown.ended(("linear@2", seed))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert "linear@2 · seed 19" in output.data["text/html"]
    assert "20 of 20 networks" in output.data["text/html"]


# In a terminal


def in_a_terminal(*arguments: str, until: str = "", keys: bytes = b"", limit: float = 120) -> tuple[int, str]:
    """Run the program in a pseudo-terminal: its status, and all that it wrote. ``keys`` are pressed after ``until``."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    take = "import os; os.close(os.open(os.ttyname(0), os.O_RDWR))"  # so that Ctrl-C reaches the process
    start = f"{take}\nimport sys\nfrom locality_prior.cli import main\nsys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        env=os.environ | ENVIRONMENT | PATHS | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    wrote, pressed, end = b"", False, time.monotonic() + limit
    try:
        while time.monotonic() < end:
            try:
                wrote += os.read(ours, 1 << 16)
            except OSError:  # the process has ended
                break
            if until and not pressed and re.search(until, wrote.decode(errors="replace")):
                pressed = os.write(ours, keys) > 0
        return process.wait(10), wrote.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def plain(wrote: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", wrote)


def test_a_terminal_has_a_table(tmp_path: Path) -> None:
    status, wrote = in_a_terminal("train", *SMALL, *SLOW, "--out", str(tmp_path / "one"))
    assert status == 0, wrote
    assert re.search(COLUMNS, plain(wrote))
    assert re.search(r"control · seed 1 +1 of 2 +\d+ s", plain(wrote))
    assert re.search(r"control · seed 1 +2 of 2 +[\d.]+ +[\d.]+ +done", plain(wrote))
    assert 0 <= wrote.find(HIDE) < wrote.rfind(SHOW)
    assert plain(wrote).rstrip().rpartition("\n")[2].startswith(f"{tmp_path / 'one'}: loss ")


def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    arguments = ["study", *SMALL, *SLOW, "--cost", "linear@2", "--epochs", "50", "--out", str(tmp_path / "out")]
    status, wrote = in_a_terminal(*arguments, until=r"\d running", keys=b"\x03")
    assert status == 130, wrote
    assert re.search(COLUMNS, plain(wrote))
    assert 0 <= wrote.rfind(HIDE) < wrote.rfind(SHOW)
    assert "Traceback" not in wrote
    last = "locality-prior: interrupted; run the same command again to continue from the last saved state\r\n"
    assert wrote.endswith(last)


# In a log, and quiet


@pytest.mark.slow
def test_a_log_file_has_no_control_characters_and_quiet_leaves_results_and_failures(tmp_path: Path) -> None:
    arguments = ["study", *SMALL, "--model", MODEL, f"{JOBS}:failing", "--cost", "flat", "--seeds", "1"]
    arguments += ["--out", str(tmp_path / "out")]
    page = f"{tmp_path / 'out' / 'report.html'}\n"
    undrawn = "from locality_prior import report; report.write = lambda directory: directory / 'report.html'"
    done = program(*arguments, limit=240, code=undrawn, TERM="xterm-256color", **PATHS)
    assert done.returncode == 1, done.stderr
    failed = "failed: control, failing · seed 1 · Odd: [red]1[/x] and 2\n"
    assert failed in done.stderr
    assert re.search(r"^control · seed 1 · epoch 2 of 2 · loss [\d.]+ · accuracy [\d.]+ · 1 of 2 ", done.stderr, re.M)
    assert {c for c in done.stdout + done.stderr if not c.isprintable()} == {"\n"}
    assert "test accuracy" in re.sub(r"\s+", " ", done.stdout)
    assert done.stdout.endswith(page)
    done = program(*arguments, "--quiet", limit=240, code=undrawn, **PATHS)
    assert (done.returncode, done.stdout, done.stderr) == (1, page, failed)


def test_a_forced_colour_makes_no_terminal_of_a_log(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, force_interactive=True)
    with Progress(console, networks(tmp_path, 2)) as shown:
        shown.running({("linear@2", 0): 0.5})
        shown.ended(("linear@2", 0))
    assert {c for c in console.file.getvalue() if not c.isprintable()} == {"\n"}  # type: ignore[attr-defined]


def test_quiet_commands_print_what_they_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "runs", {"control": 2, "mine": 2})
    out = tmp_path / "bench.json"
    bench = ["bench", "--only", "prior_memory_4096", "--quiet"]
    for arguments, expected in (
        (["analyse", str(tmp_path / "runs"), "--quiet"], f"{tmp_path / 'runs' / 'study.json'}: 4 of 4 networks\n"),
        ([*bench, "--out", str(out)], f"{out}\n"),
    ):
        capfd.readouterr()
        assert cli.main(arguments) == 0
        assert capfd.readouterr() == (expected, "")
    assert cli.main(bench) == 0  # the table is all that it makes
    told = capfd.readouterr()
    assert "prior_memory_4096" in told.out
    assert told.err == ""


def test_one_quiet_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", *SMALL, "--model", MODEL, "--out", str(tmp_path / "one")]
    assert cli.main(arguments) == 0
    loud = capfd.readouterr()
    assert "control · seed 1 · epoch 2 of 2 · loss" in loud.err
    assert cli.main([*arguments, "--quiet"]) == 0
    assert capfd.readouterr() == (loud.out, "")


# The exit status


UNFORESEEN = "cli._analyse.__code__ = (lambda options: {}['x']).__code__"
SLEEPING = (
    "cli._analyse.__code__ = (lambda options: print('ready', flush=True) or __import__('time').sleep(60)).__code__"
)


@pytest.mark.parametrize("debug", ["", "1"], ids=["", "debug"])
@pytest.mark.parametrize(
    ("status", "arguments", "code", "sent", "told"),
    [
        (0, ["--help"], "", None, ""),
        (1, ["analyse", "x"], UNFORESEEN, None, "unexpected KeyError: 'x'"),
        (2, [], "", None, "error: the following arguments are required: COMMAND"),
        (2, ["study", "--colour", "red"], "", None, "error: unrecognized arguments"),
        (2, ["open", "nowhere"], "", None, "error: DIR: got nowhere"),
        (130, ["analyse", "x"], SLEEPING, signal.SIGINT, "interrupted; run the same command again"),
        (130, ["analyse", "x"], SLEEPING, signal.SIGTERM, "interrupted; run the same command again"),
    ],
)
def test_a_process_exits_with_the_same_status_with_and_without_a_traceback(
    status: int, arguments: list[str], code: str, sent: signal.Signals | None, told: str, debug: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys\nfrom locality_prior import cli\n{code}\nsys.exit(cli.main())", *arguments],
        env=os.environ | ENVIRONMENT | {cli.DEBUG: debug},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if sent is not None:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(sent)
    said = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == status, said
    assert said[-1].startswith(f"locality-prior: {told}") if told else not said
    raised = code == UNFORESEEN or arguments[:1] == ["open"]
    assert (len(said) > 1) is (debug == "1" and raised)


def test_the_statuses_are_told_alike_in_the_help_and_in_the_documentation() -> None:
    told = re.findall(r"^  (\d+) ", cli.EPILOG, re.MULTILINE)
    assert told == ["0", "1", "2", "130"]
    page = (HOME / "docs" / "howto" / "command_line.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\d+)` \|", page, re.MULTILINE) == told
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    assert "docs/howto/command_line.md) has the exit statuses" in " ".join(readme.split())


# Completion

COMPLETE = {
    "_ARGCOMPLETE": "1",
    "_ARGCOMPLETE_IFS": "\n",
    "_ARGCOMPLETE_COMP_WORDBREAKS": " =",
    "_ARGCOMPLETE_SHELL": "bash",
}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("locality-prior an", ["analyse"]),
        ("locality-prior study --see", ["--seeds"]),
        ("locality-prior train --qu", ["--quiet"]),
    ],
)
def test_the_shell_completes_commands_and_options(line: str, offered: list[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    to = tmp_path / "offered"
    where = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(to)}
    done = program(**COMPLETE, **where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert to.read_text().split() == offered


def test_completion_without_its_package_is_one_line() -> None:
    done = program("--help", code="sys.modules['argcomplete'] = None", **COMPLETE)
    assert done.returncode == 2
    assert done.stderr == (
        "locality-prior: error: this command needs the package argcomplete, which is not installed: "
        "pip install 'locality-prior[completion]'\n"
    )
