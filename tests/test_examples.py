"""Every example runs, on less data or for fewer steps than it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from locality_prior import cli

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_own_layer(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "own_layer.py"))
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines if line.startswith("step")]
    assert losses[-1] < 0.6 * losses[0]
    assert "folded: outputs differ by at most" in lines[-1]
    assert float(lines[-1].split()[-1]) < 1e-5


def test_own_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"]
    main(tmp_path, seeds=(1,), steps=3)
    assert (tmp_path / "report.html").is_file()
    found = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert {cell["condition"] for cell in found["cells"]} == {"control", "linear@2"}
    assert {"morans_i.sheet1", "morans_i.sheet2", "mean_wire_length.fc1", "mean_wire_length.fc2"} <= found[
        "measures"
    ].keys()
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_own_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in the file's own docstring, with smaller sheets and for one epoch."""
    monkeypatch.chdir(EXAMPLES.parent)
    said = (EXAMPLES / "own_study.py").read_text(encoding="utf-8").split('"""')[1]
    command = said.split("\n\n")[1].replace("\\\n", " ").split()
    assert command[:2] == ["locality-prior", "study"]
    smaller = {"16x16": "6x6", "width=256": "width=36", "results/own": str(tmp_path / "own")}
    words = command[1:]
    for whole, part in smaller.items():
        words = [word.replace(whole, part) for word in words]
    words[words.index("--seeds") : words.index("--lr")] = ["--seeds", "1"]
    words[words.index("--epochs") + 1] = "1"
    assert cli.main(words) == 0
    found = json.loads((tmp_path / "own" / "study.json").read_text(encoding="utf-8"))
    assert list(found["conditions"]) == ["control", "linear@2", "linear@2 shuffled"]
    assert all(cell["measures"] is not None for cell in found["cells"])
    assert {"morans_i.sheet1", "morans_i.sheet2"} <= found["measures"].keys()
    assert (tmp_path / "own" / "report.html").is_file()
