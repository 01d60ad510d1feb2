"""The door: words, files and objects, and what is said when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from locality_prior._check import Problem
from locality_prior.runs import Run, Task, door

FILE = """
from dataclasses import dataclass

import torch
from torch import nn

@dataclass
class Width:
    units: int

def net(width=3, norm=False, sizes=(1,), task=None):
    made = nn.Linear(width, 2)
    made.told = {"norm": norm, "sizes": sizes, "task": None if task is None else task.name}
    return made

def needs(width):
    return nn.Linear(width, 2)

def anything(**values):
    made = nn.Linear(1, 1)
    made.told = values
    return made

def raises():
    raise KeyError("no such thing")

def number():
    return 3

module = nn.Linear(1, 1)
constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "nets.py"
    path.write_text(FILE)
    return str(path)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("digits", ("", "digits", {})),
        (" sheets:sizes=[8x8,9x9],retina=false ", ("", "sheets", {"sizes": ["8x8", "9x9"], "retina": False})),
        ("nets.py:mlp:width=256,rate=0.5", ("nets.py", "mlp", {"width": 256, "rate": 0.5})),
        ("my.nets:Net.make", ("my.nets", "Net.make", {})),
        ("/a=b/nets.py:mlp:path=c:/d", ("/a=b/nets.py", "mlp", {"path": "c:/d"})),
        ("nets:mlp:name=", ("nets", "mlp", {"name": None})),
    ],
)
def test_a_word_is_read(word: str, parts: tuple[str, str, dict[str, Any]]) -> None:
    assert door.parse("model", word) == parts


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("", "model: got , expected MODULE:NAME"),
        ("nets.py", "model: got nets.py, expected MODULE:NAME, FILE.py:NAME or a name"),
        ("a b:c", "model: got a b:c, expected MODULE:NAME"),
        ("../nets:c", "expected MODULE:NAME"),
        ("net:width=1,width=2", "model: got the argument width twice, expected each argument once"),
        ("net:width=1,3", "model: got '3', expected key=value"),
        ("net:width=[1", "model: got '[1', expected a value that YAML can read"),
        ("net:x=" + "[" * 3000, "expected a value that YAML can read"),
        ("net:x=!!python/object/apply:os.system [ls]", "expected a value that YAML can read"),
        ("n" * 100_000 + "!", "expected at most 4,000 characters"),
        ("net:x=[&a [1], *a]", "expected a value without YAML's aliases"),
        ("net\n:x=1", "expected MODULE:NAME"),
        (3, "model: got 3, expected MODULE:NAME"),
    ],
)
def test_a_bad_word_is_told_in_one_line(word: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        door.parse("model", word)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_word_has_one_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert door.canonical("model", " sheets:retina=False,sizes=[8x8, 9x9]") == "sheets:retina=false,sizes=[8x8,9x9]"
    monkeypatch.chdir(tmp_path)
    assert door.canonical("model", "./nets.py:mlp") == f"{tmp_path}/nets.py:mlp"
    for word in (
        "sheets:b=1,a=0.5",
        "n.py:mlp:c=null,text='a b'",
        "m:f:x=[1,[2,3]],y={a: 1}",
        'm:f:t="a, b=c",u="true"',
    ):
        once = door.canonical("model", word)
        assert door.canonical("model", once) == once
        assert door.parse("model", once)[2] == door.parse("model", word)[2]


def test_a_functions_word_is_its_import_path_and_an_object_has_one_for_this_process() -> None:
    assert door.canonical("model", tiny.mlp) == "tiny:mlp"
    assert door.portable("tiny:mlp")
    assert door.find("model", "tiny:mlp") is tiny.mlp
    made, other = tiny.blobs(), tiny.blobs()
    words = [door.canonical("task", one) for one in (made, other, made)]
    assert words[0] == words[2] != words[1]
    assert not door.portable(words[0])
    assert door.call("task", words[1], Task) is other
    local = door.canonical("model", lambda: nn.Linear(1, 1))
    assert isinstance(door.call("model", local, nn.Module), nn.Linear)
    with pytest.raises(Problem, match="Give the same object again to go on"):
        door.find("task", "object:elsewhere")
    for odd in (None, 3, [1], {}, b"x"):
        with pytest.raises(TypeError, match="task: got"):
            door.canonical("task", odd)


def test_a_function_gets_its_arguments_and_what_it_asks_for(file: str) -> None:
    made = door.call("model", f"{file}:net:width=5,norm=true,sizes=[1,2]", nn.Module, task=tiny.blobs())
    assert made.in_features == 5
    assert made.told == {"norm": True, "sizes": [1, 2], "task": "blobs"}
    assert door.call("model", f"{file}:anything:task=a", nn.Module, task=tiny.blobs()).told == {"task": "a"}
    assert door.call("model", f"{file}:module", nn.Module) is door.call("model", f"{file}:module", nn.Module)
    assert door.label(f"{file}:net:width=5,norm=true") == "net (width 5, norm true)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "model: got 'nothing', which is not in .*nets.py, expected one of Width, anything, needs, net,"),
        ("net:depth=3", r"model: got arguments that do not fit \(.*'depth'\), expected arguments that it has: width,"),
        ("needs", r"model: got arguments that do not fit \(missing a required argument: 'width'\)"),
        ("number", "model: got number, which returns a value of type int, expected a Module"),
        ("constant", "model: got constant, a int, expected a function that returns a Module"),
        ("raises", "model: raises raised KeyError: 'no such thing'"),
    ],
)
def test_what_does_not_fit_is_told(name: str, said: str, file: str) -> None:
    with pytest.raises((ValueError, TypeError, Problem), match=said):
        door.call("model", f"{file}:{name}", nn.Module)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", r"odd.py raised ZeroDivisionError: division by zero"),
        ("def f(:", r"odd.py raised SyntaxError"),
        ("import sys; sys.exit(3)", r"odd.py raised SystemExit: 3"),
        ("import nothing_of_the_sort", r"odd.py raised ModuleNotFoundError: No module named 'nothing_of_the_sort'"),
    ],
)
def test_a_file_that_raises_is_named(source: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text(source)
    for _ in range(2):  # the second time too: it is not taken for a module that is there
        with pytest.raises(Problem, match=said):
            door.call("task", f"{path}:f", Task)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("no.such.module:net", "model: got 'no.such.module', expected a module that can be imported"),
        ("torch.no_such:net", "model: got 'torch.no_such', expected a module that can be imported"),
        ("nowhere.py:net", "model: got .*nowhere.py, expected a Python file that exists"),
        ("lenett", "model: got 'lenett', which is not in the catalog, expected one of alexnet, digits, gpt, lenet,"),
        ("torch:__version__", "model: got __version__, a TorchVersion, expected a function that returns a Module"),
    ],
)
def test_what_cannot_be_found_is_named(word: str, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        door.call("model", word, nn.Module)


def test_reading_a_word_imports_nothing(tmp_path: Path) -> None:
    """Neither a run's settings nor its directory's make anything be imported until the run is trained."""
    path = tmp_path / "mark.py"
    path.write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    run = Run(f"{path}:task", f"{path}:net", place={"a": (4, 4)})
    assert run.place == (("a", ("4x4",)),)
    assert not (tmp_path / "mark").exists()


def test_a_module_given_as_a_model_is_copied_for_each_run() -> None:
    from locality_prior.runs.network import network

    mine = tiny.mlp()
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    nets = [network(Run(tiny.TASK, mine, cost), tiny.blobs()).model for cost in ("linear@2", "flat")]
    for net in nets:
        assert net is not mine
        torch.nn.init.zeros_(net.first.weight)
    assert all(torch.equal(before[k], v) for k, v in mine.state_dict().items())
    assert type(mine.middle) is type(nets[1].middle) is nn.Linear
    assert type(nets[0].middle) is not nn.Linear
