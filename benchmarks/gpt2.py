"""How long GPT-2 takes to be planned, localized and folded, and how much memory: its sizes, with random weights.

    uv run python benchmarks/gpt2.py [--cost linear] [--sheets whole|square]

Sheets that are whole grids (24×32 units for the 768 of a block, 48×64 for the 3,072 of an MLP) have a table of P.
Square sheets, which are what None means, are not all full: P is then a matrix. Needs Linux, and transformers.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Conv1D, GPT2Config, GPT2LMHeadModel

import locality_prior as lp


def now(word: str) -> float:
    """A line of this process's status in MiB: VmRSS is its memory, VmHWM the most that it was."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) / 1024


def measured(what: str, do: Callable[[], Any]) -> Any:
    """What ``do`` returns; its time and its memory are printed."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
    before, start, used = now("VmRSS"), time.perf_counter(), time.process_time()
    made = do()
    wall, used = time.perf_counter() - start, time.process_time() - used
    most, after = now("VmHWM") - before, now("VmRSS") - before
    print(f"{what:9} {wall:6.2f} s, {used:6.2f} s of processor time; at most {most:+5.0f} MiB, then {after:+5.0f} MiB")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", default="linear")
    parser.add_argument("--sheets", choices=("whole", "square"), default="whole")
    options = parser.parse_args()
    model, numbers = GPT2LMHeadModel(GPT2Config()).eval(), torch.arange(8)[None]
    size = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**20
    local = sum(m.weight.nbytes for m in model.modules() if isinstance(m, Conv1D)) / 2**20
    print(f"GPT-2: {size:.0f} MiB of weights, {local:.0f} MiB of them in the {12 * 4} layers that are localized")
    block, wide = lp.Grid(24, 32), lp.Grid(48, 64)
    targets: dict[Any, Any] = {Conv1D: None}
    if options.sheets == "whole":
        targets = {"c_attn": (block, block.with_channels(3)), "attn.c_proj": block}
        targets |= {"c_fc": (block, wide), "mlp.c_proj": (wide, block)}
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        lp.plan(torch.nn.Sequential(torch.nn.Linear(4, 4)), {"0": None})  # imports parts of torch
        before = model(numbers).logits
        plan = measured("planned", lambda: lp.plan(model, targets, cost=options.cost))
        measured("localized", plan.apply)
        after = model(numbers).logits
        folded = measured("folded", lambda: lp.fold(model))
        apart = [(y - before).abs().max() / before.abs().max() for y in (after, folded(numbers).logits)]
    print(f"outputs apart, localized and folded: {apart[0]:.1e}, {apart[1]:.1e} of the largest")


if __name__ == "__main__":
    main()
