"""Every example runs, on less data or for fewer steps than it says."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
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


def test_own_geometry() -> None:
    done = subprocess.run([sys.executable, EXAMPLES / "own_geometry.py"], capture_output=True, text=True, check=True)
    across, layer, lengths = done.stdout.splitlines()
    space, along = (float(word) for word in across.replace(",", "").split() if "." in word)
    assert 5 * space < along
    assert "source=FoldedTube(360 units)" in layer
    assert 1 < float(lengths.split()[-1]) < 2


@pytest.mark.slow
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


def test_two_objectives(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(EXAMPLES / "two_objectives.py"))["main"]
    main(epochs=4)
    *epochs, before, after = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in epochs] == [f"epoch {k}" for k in (1, 2, 3, 4)]
    loss, *objectives = zip(*(line.partition(": ")[2].split("; ") for line in epochs), strict=True)
    assert float(loss[-1].split()[1]) < float(loss[0].split()[1])
    for word, strength, lines in zip(("topoloss", "spatial_correlation"), (0.5, 0.25), objectives, strict=True):
        told = [(float(line.split()[1].rstrip(",")), float(line.split()[3])) for line in lines]
        assert all(line.startswith(f"{word} ") for line in lines)
        assert told[-1][0] < told[0][0]
        assert told[-1][1] == pytest.approx(strength * told[-1][0], abs=1e-3)
    for measure in ("Moran's I ", "1/(1 + d) "):
        numbers = [float(line.split(measure)[1].split(",")[0]) for line in (before, after)]
        assert numbers[1] > numbers[0] + 0.1


@pytest.mark.slow
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
