"""Files are written whole or not at all, by one process at a time, and no file that is read is trusted."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from locality_prior._check import Problem
from locality_prior._files import (
    DEEPEST,
    LOCK,
    PARTIAL,
    alone_in,
    digest,
    inside,
    read_csv,
    read_json,
    read_npz,
    read_yaml,
    reading_yaml,
    replacing,
    replacing_folder,
    slug,
    sweep,
    write_json,
    write_text,
    writing,
)

ODD_TEXTS = [
    "",
    ".",
    "..",
    "a/b",
    "/etc/passwd",
    "../../outside",
    "a\\b",
    "C:x",
    "a\nb",
    "\0",
    "x" * 500,
    "é",
    "\ud800",
]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# Writing


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old ü")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial, open(partial, "w") as file:
        file.write("half") / 0
    assert path.read_text(encoding="utf-8") == "old ü"
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text(encoding="utf-8") == "old ü"
    assert path.read_text() == "new"
    assert names(tmp_path) == {"a.txt"}


def test_two_writers_of_one_file_do_not_share_their_unfinished_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with replacing(path) as outer:
        outer.write_text("outer")
        with replacing(path) as inner:
            inner.write_text("inner")
            assert inner != outer
        assert path.read_text() == "inner"
    assert path.read_text() == "outer"
    assert outer.suffix == ".png"  # by which matplotlib knows the format


def test_a_link_is_never_written_through(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("analysis.json", ".partial-analysis.json", ".partial-lock"):
        (out / name).symlink_to(mine)
    with alone_in(out):
        write_json(out / "analysis.json", {"a": 1})
    assert mine.read_text() == "precious"
    assert json.loads((out / "analysis.json").read_text()) == {"a": 1}
    assert not (out / "analysis.json").is_symlink()


def test_a_new_file_may_be_read_by_those_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "a")
        with replacing_folder(tmp_path / "b") as partial:
            (partial / "c").touch()
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b", "b/c")] == [0o640, 0o750, 0o640]


def test_an_error_names_the_file_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "nowhere" / "a.txt", "a")
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.txt")


def test_json_has_finite_numbers_only(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert read_json(tmp_path / "a.json") == {"ü": [1, None]}
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"ü": [1, None]}
    assert names(tmp_path) == {"a.json"}


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_is_replaced_whole_or_not_at_all(
    in_one_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not in_one_step:
        monkeypatch.setattr(writing, "_exchange", lambda *_: False)
    path = tmp_path / "figures"
    with replacing_folder(path) as partial:
        (partial / "old").write_text("old")
    with pytest.raises(FileExistsError), replacing_folder(path) as partial:
        [(partial / "half").touch(exist_ok=False) for _ in range(2)]
    assert names(path) == {"old"}
    with replacing_folder(path) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "new").write_text("new")
    assert names(path) == {"deep"}
    assert (path / "deep" / "new").read_text() == "new"
    # where the new one cannot be moved in, the old one comes back
    rename = os.rename

    def fail(old: Any, new: Any) -> None:
        if Path(new) == path and Path(old).name == path.name:
            raise OSError("no room")
        rename(old, new)

    monkeypatch.setattr(writing, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="no room"), replacing_folder(path) as partial:
        (partial / "other").touch()
    assert names(path) == {"deep"}
    assert names(tmp_path) == {"figures"}


def test_a_link_to_a_folder_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").touch()
    (tmp_path / "link").symlink_to(mine)
    with replacing_folder(tmp_path / "link") as partial:
        (partial / "new").touch()
    assert names(mine) == {"precious"}
    assert names(tmp_path / "link") == {"new"}
    (tmp_path / "file").write_text("a")
    with pytest.raises(NotADirectoryError), replacing_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "a"


KILLED = """
import os, sys
from locality_prior._files import replacing
with replacing(sys.argv[1]) as partial:
    partial.touch()
    os._exit(1)
"""


def test_what_killed_writers_leave_is_swept_away(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "precious").touch()
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(out / "a")], check=False, stderr=subprocess.DEVNULL)
    assert [name.startswith(PARTIAL) for name in names(out)] == [True]
    (out / f"{PARTIAL}link").symlink_to(mine)
    (out / f"{PARTIAL}file").touch()
    (out / f"{PARTIAL}folder").mkdir()
    (out / f"{PARTIAL}folder" / "link").symlink_to(mine)
    (out / "kept").touch()
    with alone_in(out):
        sweep(out)
    assert names(out) == {"kept"}
    assert names(mine) == {"precious"}


# One process at a time

WRITER = """
import sys, time
from pathlib import Path
from locality_prior._files import alone_in
out = Path(sys.argv[1])
with alone_in(out):
    assert not (out / "busy").exists()
    (out / "busy").touch()
    time.sleep(0.05)
    (out / "busy").unlink()
"""


def test_commands_begun_together_wait_for_one_another(tmp_path: Path) -> None:
    """Even where the directory does not exist yet, and is removed again by each."""
    out = tmp_path / "a" / "b"
    begun = [subprocess.Popen([sys.executable, "-c", WRITER, str(out)]) for _ in range(4)]
    assert [one.wait(30) for one in begun] == [0] * 4
    assert names(out) == set()


def test_threads_wait_for_one_another_while_the_directory_comes_and_goes(tmp_path: Path) -> None:
    out, inside_, most = tmp_path / "a" / "b", [], []

    def work(_: int) -> None:
        with alone_in(out):
            inside_.append(1)
            most.append(len(inside_))
            inside_.pop()
            if len(most) % 2:
                shutil.rmtree(out.parent, ignore_errors=True)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(40)))
    assert most == [1] * 40


def test_a_held_directory_is_told_in_one_line(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(Problem) as caught, alone_in(tmp_path, patience=0.1):
        pass
    assert str(caught.value) == (
        f"Another process is writing to {tmp_path}. Wait for it to end, or name another directory."
    )
    with alone_in(tmp_path, patience=0):  # it is free again
        pass


def test_a_killed_process_leaves_its_directory(tmp_path: Path) -> None:
    code = "import sys, time\nfrom locality_prior._files import alone_in\nwith alone_in(sys.argv[1]): time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    end = time.monotonic() + 20
    while not (tmp_path / LOCK).exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path, patience=1):
        pass
    assert names(tmp_path) == set()


def test_what_is_in_the_way_of_a_lock_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    for kind in ("link", "dangling", "folder", "pipe"):
        out = tmp_path / kind
        out.mkdir()
        lock = out / LOCK
        if kind == "folder":
            lock.mkdir()
        elif kind == "pipe":
            os.mkfifo(lock)
        else:
            lock.symlink_to(mine if kind == "link" else tmp_path / "none")
        with pytest.raises(Problem, match=r"\.lock is in the way"), alone_in(out, patience=1):
            pass
    assert mine.read_text() == "precious"
    assert not (tmp_path / "none").exists()
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    for out in (mine, mine / "deeper", tmp_path / "nowhere", tmp_path / "nowhere" / "deeper"):
        with pytest.raises(Problem, match="in the way of a directory"), alone_in(out, patience=1):
            pass


# Names


def test_a_name_stays_inside_its_directory(tmp_path: Path) -> None:
    for good in ("a", "linear@3", ".hidden", "über 1", "a..b", "x" * 200):
        assert inside(tmp_path, good).parent == tmp_path
    for bad in [*(text for text in ODD_TEXTS if text != "é"), "ü" * 101, "a\u202eb", "a\u2028b"]:
        with pytest.raises(ValueError, match=r"\Acondition: got .*, expected a file name") as caught:
            inside(tmp_path, bad, "condition")
        assert str(caught.value).isprintable()
    with pytest.raises(TypeError, match="name: got 3, expected a file name"):
        inside(tmp_path, 3)  # type: ignore[arg-type]


def test_any_text_has_a_safe_name_of_its_own(tmp_path: Path) -> None:
    texts = [*ODD_TEXTS, "linear@3", "linear 3", "linear-3", "-rf", ".git", "x" * 501, "ends-", "a.b_c-d", "ü", "ö"]
    found = [slug(text) for text in texts]
    assert len(set(found)) == len(texts)
    for name in found:
        assert inside(tmp_path, name).name == name
        assert not name.startswith(("-", "."))
        assert len(name) <= 80
        assert slug(name) == name
    assert slug("a.b_c-d") == "a.b_c-d"
    assert slug("linear@3").startswith("linear-3-")


# Reading

READERS = {"yaml": read_yaml, "json": read_json, "csv": read_csv, "npz": read_npz, "digest": digest}


def refused(read: Any, path: Any, *arguments: Any, seconds: float = 1, **options: Any) -> str:
    """What is said of a file: one line that begins with the file, and soon."""
    begun = time.monotonic()
    with pytest.raises(ValueError, match="expected") as caught:
        read(path, *arguments, **options)
    assert time.monotonic() - begun < seconds
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    assert said.startswith(f"{path}: got ") or not str(path).isprintable() or len(str(path)) > 1000
    return said


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_only_regular_files_are_read(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # since the names of sockets must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    assert "got a named pipe, expected a regular file" in refused(read, tmp_path / "pipe")
    assert "got a socket, expected" in refused(read, tmp_path / "socket")
    assert "got a directory, expected" in refused(read, tmp_path)
    for device in ("/dev/zero", "/dev/stdin" if Path("/dev/stdin").is_char_device() else "/dev/null"):
        assert "got a device, expected" in refused(read, device)
    assert "got no such file, expected" in refused(read, tmp_path / "none")
    for odd in ("a\0b", "x" * 10_000, "a\nb"):
        refused(read, odd)
    if os.geteuid():
        (tmp_path / "secret").touch(0o000)
        assert "got permission denied" in refused(read, tmp_path / "secret")


@pytest.mark.parametrize("read", [read_yaml, read_json, read_csv, read_npz])
def test_large_files_and_other_bytes_are_refused(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 101)
    assert "more than 100 bytes" in refused(read, path, most=100)
    with open(path, "wb") as file:
        file.truncate(2**40)  # which takes no room on the disk
    assert "more than" in refused(read, path)
    path.write_bytes(b"a: \xff\xfe\x00")
    refused(read, path)


def test_yaml_is_read_as_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    value = {"a": [1, 2.5, None, True, "text", "1e5"], "b": {"c": "ü", "3": []}}
    path.write_text(yaml.safe_dump(value, explicit_end=True))
    assert read_yaml(path) == read_yaml(path, ended=True) == value
    path.write_text("\ufeffa: &x {b: 1e-4}\nc: *x\nd: {<<: *x, e: 2}\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"b": 1e-4}, "c": {"b": 1e-4}, "d": {"b": 1e-4, "e": 2}}
    assert "cut short" in refused(read_yaml, path, ended=True)
    path.write_text("")
    assert read_yaml(path) is None
    path.write_text("[" * DEEPEST + "]" * DEEPEST)
    assert json.dumps(read_yaml(path)) == path.read_text()


def test_a_yaml_file_that_was_cut_anywhere_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    whole = yaml.safe_dump({"cost": "linear@3", "seed": 15, "recipe": {"epochs": 10}}, explicit_end=True)
    for length in range(len(whole.rstrip())):
        path.write_text(whole[:length])
        refused(read_yaml, path, ended=True)


BOMB = "\n".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10))
YAML_TRAPS = {
    "aliases": f"a0: &a0 [x]\n{BOMB}",
    "merged aliases": "a0: &a0 {x: 1}\n"
    + "\n".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}" for k in range(1, 10)),
    "itself": "a: &a [*a]",
    "deep": "[" * 100_000,
    "deep but closed": "[" * 2000 + "]" * 2000,
    "deep mappings": "{a: " * 5000,
    "deep blocks": "\n".join(" " * k + "a:" for k in range(1500)),
    "long": "- 1\n" * 1_000_000,
    "empty lists": "[" + "[]," * 1_000_000 + "]",
    "a long number": "a: " + "1:" * 1_000_000 + "1",
    "a long hexadecimal number": "a: 0x" + "f" * 1_000_000,
    "many digits": "a: " + "1" * 9_000,
    "twice": "seed: 1\ncost: flat\nseed: 2\n",
    "an object": "a: !!python/object/apply:os.system [true]",
    "a name": "a: !!python/name:os.system",
    "a date": "a: 2001-99-99",
    "no date": "a: !!timestamp x",
    "no truth value": "a: !!bool x",
    "no number": "a: !!int x",
    "no key": "{[1]: 2}",
    "two documents": "a: 1\n---\nb: 2\n",
    "an unknown alias": "a: *b",
    "an odd character": "a: \x07",
    "no YAML": "a: b: c",
    "not closed": 'a: "b',
}


@pytest.mark.parametrize("fast", [True, False], ids=["libyaml", "pure"])
@pytest.mark.parametrize("text", YAML_TRAPS.values(), ids=YAML_TRAPS)
def test_a_hostile_yaml_file_is_told_in_a_second(
    text: str, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fast:
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    reading_yaml._yaml_loader.cache_clear()
    path = tmp_path / "a.yaml"
    path.write_text(text)
    try:
        refused(read_yaml, path, seconds=1 if fast else 10)
    finally:
        reading_yaml._yaml_loader.cache_clear()


JSON_TRAPS = {
    "deep": "[" * 1_000_000,
    "deep but closed": "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
    "deep objects": '{"a": ' * 500 + "1" + "}" * 500,
    "no number": '{"a": NaN}',
    "endless": "[-Infinity]",
    "large": "[1e999]",
    "many digits": "[" + "1" * 100_000 + "]",
    "half a character": '["\\ud800"]',
    "cut": '{"a": [1, 2',
    "two": "1 2",
    "nothing": "",
}


@pytest.mark.parametrize("text", JSON_TRAPS.values(), ids=JSON_TRAPS)
def test_a_hostile_json_file_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    refused(read_json, path)


def test_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("[" * DEEPEST + "]" * DEEPEST, '{"a": [1, 2.5, null, "\\ud83d\\ude00"]}', "3"):
        path.write_text(text)
        assert read_json(path) == json.loads(text)


def test_csv_is_read_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'epoch,loss\r\n1,0.5\r\n2,"a,\xe2\x80\xa8""b"\r\n')
    assert read_csv(path, ["loss"]) == [{"epoch": "1", "loss": "0.5"}, {"epoch": "2", "loss": 'a,\u2028"b'}]
    path.write_text("epoch,loss\n")
    assert read_csv(path) == []
    for text, said in {
        "": "no header",
        "epoch,los": "columns epoch, los",
        "epoch,epoch,loss\n": "columns epoch, epoch, loss",
        "epoch,loss\n1,0.5\n2\n": "1 fields in row 3",
        "epoch,loss\n1,0.5,3\n": "3 fields in row 2",
        "epoch,loss\n1,0.5\n2,0.2": "cut short",
        'epoch,loss\n1,"0.5\n': "not CSV",
        "epoch,loss\n1," + "x" * 200_000 + "\n": "not CSV",
    }.items():
        path.write_text(text)
        assert said in refused(read_csv, path, ["epoch", "loss"])


def npz(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def member(path: Path, header: dict[str, Any], data: bytes, name: str = "x.npy", version: Any = (1, 0)) -> Path:
    """An NPZ file with one array whose header says anything."""
    held = io.BytesIO()
    held.write(b"\x93NUMPY" + bytes(version))
    text = repr(header).encode()
    held.write(len(text).to_bytes(2 if version == (1, 0) else 4, "little") + text + data)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, held.getvalue())
    return path


def test_arrays_are_read_back(tmp_path: Path) -> None:
    arrays = {
        "sheet/output/xy": np.random.default_rng(0).normal(size=(5, 2)),
        "order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(3),
        "names": np.array(["a", "bc"]),
        "mask": np.array([True, False]),
    }
    found = read_npz(npz(tmp_path / "a.npz", **arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    size = sum(item.file_size for item in zipfile.ZipFile(tmp_path / "a.npz").infolist())
    assert read_npz(tmp_path / "a.npz", max(size, (tmp_path / "a.npz").stat().st_size))


def test_a_hostile_npz_file_is_told(tmp_path: Path) -> None:
    def header(shape: Any, descr: Any = "<f8") -> dict[str, Any]:
        return {"descr": descr, "fortran_order": False, "shape": shape}

    path = tmp_path / "a.npz"
    said = refused(read_npz, member(path, header((157_000, 157_000)), b"\0" * 64))
    assert "'x' of 197,192,000,000 bytes by its header" in said
    for odd in (
        header((10**30, 0)),
        header((-1, -8)),
        header((8,), "|O"),
        header((8,), [("a", "<f8")]),
        header((10**18,), "<U0"),
        header((8,), "M8[s]"),
        header((8,), "nonsense"),
        header((8.5,)),
        header("(" * 1000),
        {"descr": "<f8"},
    ):
        refused(read_npz, member(path, odd, b"\0" * 64))
    refused(read_npz, member(path, header((8,)), b"\0" * 63))
    refused(read_npz, member(path, header((8,)), b"\0" * 64, "x.txt"))
    refused(read_npz, member(path, header((8,)), b"\0" * 64, version=(9, 9)))
    assert read_npz(member(path, header((8,)), b"\0" * 64, version=(2, 0)))["x"].shape == (8,)
    # more than was asked for, once it is unpacked
    said = refused(read_npz, npz(path, x=np.zeros(2**20)), 2**20)
    assert "arrays of more than 1,048,576 bytes" in said
    # no pickle
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    refused(read_npz, path)
    # other compressions
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.txt", b"")
    refused(read_npz, path)


def test_an_npz_file_that_was_cut_or_damaged_anywhere_is_told(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=40), y=np.arange(9))
    whole, right = path.read_bytes(), read_npz(path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(read_npz, path)
    errors = []
    for place in range(0, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = read_npz(path)
        except ValueError as error:
            errors.append(str(error))
        else:  # a name or a date was changed, which no checksum covers, but no number was
            assert all(np.array_equal(a, b) for a, b in zip(found.values(), right.values(), strict=True))
    assert all(error.isprintable() for error in errors)
    assert len(errors) > len(whole) // 6


def test_a_checksum_is_that_of_the_whole_file(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    assert digest(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_files_are_read_without_torch() -> None:
    code = "import sys, locality_prior._files; assert not {'torch', 'numpy', 'yaml'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system in which no directory can be made")
def test_a_directory_that_cannot_be_made_is_not_taken_for_a_busy_one() -> None:
    with pytest.raises(Problem, match="/proc/nothing cannot be made"), alone_in("/proc/nothing", patience=0.1):
        pass
