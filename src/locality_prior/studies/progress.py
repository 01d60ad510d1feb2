"""How far networks are: a live table in a terminal and in a notebook, a line for each network in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from locality_prior._check import printable
from locality_prior._files import read_csv
from locality_prior.runs.config import Run, epochs_before
from locality_prior.runs.files import METRICS

Key = tuple[str, int]  # condition, seed

#: The seconds from one drawing of the table to the next, and the longest silence of a log while networks are trained.
DRAW, SILENCE = 1.0, 600.0
#: The most networks that the table shows.
ROWS = 12


@dataclass
class Row:
    """A network that is trained, or was."""

    name: str
    epochs: int
    metrics: Path
    began: float  # when it was first seen, in seconds of a monotonic clock,
    first: float  # and how many epochs it had done then: a resumed network begins with some
    done: float
    known: int = 0  # the epoch that loss and score are of
    loss: str = ""
    score: str = ""
    of: str = ""  # the score's name
    end: str = ""  # done or failed

    def read(self) -> None:
        """Read the validation loss and the first score of the last epoch, from the table that the run writes."""
        try:
            last = read_csv(self.metrics)[-1]
            scores = {k: v for k, v in last.items() if k.startswith("validation_") and k != "validation_loss"}
            self.known, self.loss = int(last["epoch"]), f"{float(last['validation_loss']):#.4g}"
            for name, value in list(scores.items())[:1]:
                self.of, self.score = name.removeprefix("validation_"), f"{float(value):#.4g}"
        except (OSError, ValueError, LookupError):
            pass  # not there yet

    def epoch(self) -> str:
        """The epoch under way, of how many."""
        return f"{min(max(math.ceil(self.done), 1), self.epochs)} of {self.epochs}"

    def left(self) -> str:
        """The time that training takes yet, at the pace so far."""
        return duration(time.monotonic() - self.began, self.done - self.first, self.epochs - self.done)


def duration(passed: float, done: float, left: float) -> str:
    """The time that what is left takes, if what was done took ``passed`` seconds; "" where that cannot be said yet."""
    if done <= 0 or left <= 0:
        return ""
    seconds = passed / done * left
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """What is shown while networks are trained: a block that is told how far they are.

    In a terminal and in a notebook it shows one table, drawn again and again: the networks that are being trained and
    those that ended last, each with the validation loss and score of its last epoch, and the total below. Anywhere else
    it prints a line when a network ends.

    Args:
        console: where to show it.
        networks: the run of each network, and its directory.
        found: how many of them were finished before.
        quiet: whether to show nothing but the networks that fail.
    """

    def __init__(
        self, console: Console, networks: Mapping[Key, tuple[Run, Path]], found: int = 0, quiet: bool = False
    ) -> None:
        self.console, self.networks, self.found, self.quiet = console, networks, found, quiet
        self.rows: dict[Key, Row] = {}
        self.under_way: list[Row] = []
        self.over: list[Row] = []
        self.started = self.said = time.monotonic()
        self.drawn = -math.inf
        self.begun = False
        self.live: Live | None = None
        self.draw: Callable[[Table], object] | None = None  # None: lines, not a table

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()  # the cursor is shown again

    def running(self, done: Mapping[Key, float]) -> None:
        """Show the networks that are being trained, and how many epochs each has done.

        It may be called at every step: between two drawings it takes no time.
        """
        now = time.monotonic()
        if done and not self.rows:
            self.started = now  # what came before was no training
        for key, epochs in done.items():
            if key not in self.rows:
                self._add(key, epochs)
        if self.quiet or now - self.drawn < DRAW:
            return
        self._begin()
        self.drawn, self.under_way = now, [self.rows[key] for key in done]
        for row, epochs in zip(self.under_way, done.values(), strict=True):
            row.done = epochs
            if row.known < math.ceil(row.done) - 1:
                row.read()
        if self.draw is not None:
            self.draw(self.table())
        elif self.under_way and now - self.said > SILENCE:
            self._print(self.line(self.under_way[0]))

    def ended(self, key: Key, error: str | None = None) -> None:
        """Show that a network has ended, and why it failed if it did."""
        row = self.rows.get(key) or self._add(key, 0.0)
        if not self.quiet:
            self._begin()
            row.read()
        row.end, row.done = ("done", row.epochs) if error is None else ("failed", row.done)
        self.over.append(row)
        self.under_way = [one for one in self.under_way if one is not row]
        if error is not None:
            self._print(f"failed: {row.name} · {error}")
        if self.draw is not None:
            self.draw(self.table())
        elif error is None and not self.quiet:
            self._print(self.line(row))

    def _begin(self) -> None:
        """Show the table, or the first line. An error before that is the only thing that is said."""
        if self.begun:
            return
        self.begun = True
        if self.console.is_jupyter:
            from IPython.display import display

            self.draw = display(self.table(), display_id=True).update
        elif self.console.is_interactive and self.console.file.isatty():  # rich takes a forced colour for a terminal
            # without a thread of its own, which would take time from training
            live = self.live = Live(self.table(), console=self.console, auto_refresh=False)
            live.start(refresh=True)
            self.draw = lambda table: live.update(table, refresh=True)
        else:
            self._print(self.total())

    def _add(self, key: Key, done: float) -> Row:
        run, directory = self.networks[key]
        name = printable(f"{key[0]} · seed {key[1]}")
        epochs = epochs_before(run) + run.recipe.epochs
        self.rows[key] = Row(name, epochs, directory / METRICS, time.monotonic(), done, done)
        return self.rows[key]

    def table(self) -> Table:
        """The networks that are being trained, those that ended last, and the total; never higher than the console."""
        most = max(min(ROWS, self.console.height - 4), 1)
        running = self.under_way[:most]
        room = most - len(running)
        shown = [*(self.over[-room:] if room else []), *running]
        scores = {row.of for row in shown if row.of}
        drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, min_width=60)
        drawn.caption, drawn.caption_style, drawn.caption_justify = self.total(), "", "left"
        drawn.add_column("network")
        for heading in ("epoch", "loss", scores.pop() if len(scores) == 1 else "score", "time left"):
            drawn.add_column(Text(printable(heading)), justify="right", no_wrap=True)
        for row in shown:
            name = Text(row.name, no_wrap=True, overflow="ellipsis")
            left = row.end or ("measuring" if row.done >= row.epochs else row.left())
            drawn.add_row(name, row.epoch(), row.loss, row.score, left, style="dim" if row.end else "")
        return drawn

    def line(self, row: Row) -> str:
        """A network and the total, in one line."""
        numbers = [f"{name} {value}" for name, value in (("loss", row.loss), (row.of, row.score)) if value]
        return " · ".join([row.name, f"epoch {row.epoch()}", *numbers, self.total()])

    def total(self) -> str:
        """How many networks are done, running and failed, and the time that the rest takes at the pace so far."""
        failed = sum(row.end == "failed" for row in self.over)
        known, share = [*self.over, *self.under_way], sum(row.done / row.epochs for row in self.under_way)
        left = duration(
            time.monotonic() - self.started,
            sum((row.done - row.first) / row.epochs for row in known),
            len(self.networks) - self.found - len(self.over) - share,
        )
        running, ended = len(self.under_way), self.found + len(self.over) - failed
        counts = [f"{ended} of {len(self.networks)} networks", *([f"{running} running"] if running else [])]
        return " · ".join([*counts, f"{failed} failed", *([f"{left} left"] if left else [])])

    def _print(self, text: str) -> None:
        self.said = time.monotonic()
        self.console.print(Text(printable(text)), highlight=False, soft_wrap=True)
