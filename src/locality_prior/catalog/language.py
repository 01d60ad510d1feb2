"""The built-in task of language: the next character, or byte, of a text; and sentences scored by what learned it."""

from __future__ import annotations

import json
import math
import os
import platform
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior._check import Problem, choice, count, instance, number, short, wrong, wrong_type
from locality_prior._files import read_text
from locality_prior.catalog.tasks import VARIABLE
from locality_prior.runs.network import call
from locality_prior.runs.task import Batch, Score, Shard, Task, cut, draw, logits_of, spread

Level = Literal["char", "byte"]

#: The most bytes of a text, and the most windows in an epoch.
MOST, WINDOWS = 1 << 28, 1 << 24
#: Windows whose activations are kept.
KEPT = 500
#: The most tokens that a model is given at once when it is not trained, and the most logits that it gives back.
TOKENS, LOGITS = 1 << 12, 1 << 24
#: The kinds of tokens, by which maps are made. Every token is of one kind.
KINDS = (
    "vowels",
    "consonants",
    "capitals",
    "digits",
    "spaces",
    "line ends",
    "quotes",
    "sentence ends",
    "punctuation",
    "others",
)
_OTHERS = KINDS.index("others")


def text(
    path: str | None = None,
    level: Level = "char",
    context: int = 64,
    windows: int | None = None,
    validation: float = 0.05,
    test: float = 0.05,
    data_root: str | None = None,
) -> Text:
    """Predict each character, or byte, of a text from those before it.

    The first part of the text is to train, the next to validate and the last to test. What is read of it at once is a
    window of ``context`` characters. Windows to train with begin anywhere in their part; those to validate and to test
    with lie side by side.

    Args:
        path: a UTF-8 file, as it is, or in ``data_root``, or in the folder ``text`` there. None: the topics of Python's
            own ``help()``, about 450,000 characters of English with examples of code, which come with Python. They
            differ a little from one version of Python to the next, so the task's name says the version.
        level: what a token is: ``char``, one of the characters that occur in the text, or ``byte``, one of the 256
            bytes.
        context: tokens in a window.
        windows: windows in an epoch; None: one for each ``context`` tokens to train with.
        validation: how many tokens to validate with, or their share of the text.
        test: how many tokens to test with, or their share.
        data_root: a folder with texts; None: the one that the variable LOCALITY_PRIOR_DATA names.

    Raises:
        ValueError: no such file, other bytes than UTF-8, or too short a text.
        Problem: a Python without its help topics.
    """
    content, name = _topics() if path is None else (read_text(found := _find(path, data_root), MOST), found.name)
    return Text(content, level, context, windows, validation, test, name)


def _topics() -> tuple[str, str]:
    """The topics of Python's ``help()``, in the order of their names, and what they are called."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise Problem(
            "This Python comes without the topics of its help (pydoc_data), which are the text unless one is given: "
            "name a UTF-8 file, as in text:path=FILE."
        ) from None
    return "\n".join(topics[key] for key in sorted(topics)), f"help of Python {platform.python_version()}"


def _find(path: str, data_root: str | None) -> Path:
    """The file or folder at ``path``, or at it in the folder with data, or in the folder ``text`` there."""
    instance("path", path, (str, Path), "the path of a file")
    given = data_root if data_root is not None else os.environ.get(VARIABLE)
    places = [Path(path), *([] if given is None else [Path(given, path), Path(given, "text", path)])]
    there = next((place for place in places if place.exists()), None)
    if there is None:
        looked = f"{path}, which is not there" + ("" if given is None else f", nor in {given}, nor in its folder text")
        raise wrong("path", looked, "a file that exists, or one in the folder that --data-root names")
    return there


class Text(Task):
    """A task in which each token of a text is predicted from those before it.

    The loss is cross-entropy, in nats a token: over n tokens, −Σ log p(token | those before it in the window) / n. The
    score ``bits_per_byte`` is −Σ log₂ p over the number of bytes that the tokens take in UTF-8, by which models of
    characters and of bytes can be compared. A model gives logits (items, tokens, vocabulary), as a tensor or in the
    attribute ``logits`` of what it gives.

    The kept items are windows of the test text. The class of each is the kind of its last token, and a unit's response
    to it is that at the last token. There are equally many of each kind, as far as the text has them, from all over it.

    Args:
        content: the text.
        level, context, windows, validation, test: see :func:`text`.
        name: the task's name on pages.
    """

    classes = KINDS
    scores = (Score("bits_per_byte", "bits", "down", tolerance=0.05),)
    response: Literal["mean", "last"] = "last"

    def __init__(
        self,
        content: str,
        level: Level = "char",
        context: int = 64,
        windows: int | None = None,
        validation: float = 0.05,
        test: float = 0.05,
        name: str = "text",
    ) -> None:
        instance("content", content, str, "a text")
        self.level, self.context = choice("level", level, ("char", "byte")), count("context", context, most=1 << 16)
        self.name = name
        codes = _codes(content, self.level)
        if self.level == "byte":
            known = np.arange(256)
            tokens = codes
        else:
            there = np.zeros(0x110000, dtype=bool)
            there[codes] = True
            known = np.flatnonzero(there)
            number_of = np.zeros(len(there), dtype=np.uint8 if len(known) <= 256 else np.int32)
            number_of[known] = np.arange(len(known))
            tokens = number_of[codes]
        #: The characters, or bytes, that tokens stand for, by number.
        self.known: list[int] = known.tolist()
        self._numbers = {code: k for k, code in enumerate(self.known)}
        self._kinds = torch.tensor([_kind(code, self.level) for code in self.known])
        ends = [1 if self.level == "byte" else len(chr(c).encode("utf-8", "surrogatepass")) for c in self.known]
        self._bytes = torch.tensor(ends)
        held = {"validation": validation, "test": test}
        sizes = {key: _size(key, value, len(tokens), self.context) for key, value in held.items()}
        left = len(tokens) - sum(sizes.values())
        if left <= self.context:
            given = f"{len(tokens):,} tokens, of which {max(left, 0):,} are left to train with"
            raise wrong("text", given, f"more than {self.context} to train with, which is the context")
        parts = torch.split(torch.from_numpy(tokens), [left, sizes["validation"], sizes["test"]])
        self._train, self._validation, self._test = parts
        side_by_side = min(-(-left // self.context), WINDOWS)
        self.windows = count("windows", side_by_side if windows is None else windows, most=WINDOWS)

    def __repr__(self) -> str:
        train, validation, test = (f"{len(part):,}" for part in (self._train, self._validation, self._test))
        counts = f"{train} tokens to train, {validation} to validate, {test} to test"
        return f"Text({self.name!r}: {counts}, {self.vocabulary} different {self.level}s, context {self.context})"

    @property
    def vocabulary(self) -> int:
        """How many different tokens there are."""
        return len(self.known)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.windows, len(self._side_by_side(self._validation)), len(self._side_by_side(self._test))

    def encode(self, content: str) -> Tensor:
        """The tokens of a text, (tokens,).

        Raises:
            ValueError: a character that the task's text does not have.
        """
        codes = _codes(instance("content", content, str, "a text"), self.level).tolist()
        strange = next((code for code in codes if code not in self._numbers), None)
        if strange is not None:
            raise wrong("content", f"{chr(strange)!r}", "characters that the task's text has")
        return torch.tensor([self._numbers[code] for code in codes], dtype=torch.int64)

    def decode(self, tokens: Any) -> str:
        """The text of ``tokens`` (tokens,); bytes that are not UTF-8 become �."""
        codes = [self.known[count("tokens", int(k), 0, self.vocabulary - 1)] for k in tokens]
        return bytes(codes).decode("utf-8", "replace") if self.level == "byte" else "".join(map(chr, codes))

    def steps(self, batch_size: int, world: int) -> int:
        return len(cut(torch.arange(self.windows), batch_size, world))

    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(draw(seed, epoch, 0))
        starts = torch.randint(len(self._train) - self.context, (self.windows,), generator=generator)
        return (self._read(self._train, s, shard) for s in cut(starts, batch_size, shard.world)[start:])

    def validation(self, shard: Shard) -> Iterator[Batch]:
        return self._each_once(self._validation, self._side_by_side(self._validation), shard)

    def test(self, shard: Shard) -> Iterator[Batch]:
        return self._each_once(self._test, self._side_by_side(self._test), shard)

    def kept(self) -> Iterator[Batch]:
        """Five hundred windows of the test text: equally many whose last token is of each kind, from all over it."""
        last = self._kinds[self._test[self.context - 1 : -1].long()]
        there = torch.unique(last)
        each = [(last == kind).nonzero()[:, 0] for kind in there]
        starts = torch.cat([part[spread(len(part), KEPT // len(there))] for part in each]).sort().values
        return self._each_once(self._test, starts, Shard())

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar: the mean over its tokens of −log p, in nats."""
        return F.cross_entropy(self._logits(outputs, targets).flatten(0, 1), targets.flatten())

    def score(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        """Bits a byte, a number for each byte: that of a character of several bytes is shared among them."""
        tokens = targets.flatten()
        nats = F.cross_entropy(self._logits(outputs, targets).flatten(0, 1), tokens, reduction="none").double()
        size = self._bytes.to(tokens.device)[tokens]
        return {"bits_per_byte": (nats / (math.log(2) * size)).repeat_interleave(size)}

    def ceiling(self) -> float:
        return 100.0 * math.log(max(self.vocabulary, 2))

    def _logits(self, outputs: Any, targets: Tensor) -> Tensor:
        """The model's logits, (items, tokens, at least as many as there are different tokens)."""
        logits: Tensor = logits_of(outputs)
        shape = tuple(getattr(logits, "shape", ()))
        if len(shape) != 3 or shape[:2] != tuple(targets.shape) or shape[2] < self.vocabulary:
            given = f"a model that gives {f'shape {shape}' if shape else type(outputs).__name__}"
            expected = f"logits of shape {(*targets.shape, self.vocabulary)}: items, tokens, different tokens"
            raise wrong("model", given, expected)
        return logits

    def _side_by_side(self, part: Tensor) -> Tensor:
        """Where windows begin that lie side by side: of the last characters, too few for a window are left out."""
        return torch.arange(0, len(part) - self.context, self.context)

    def _at_once(self) -> int:
        """How many windows are read at once where nothing is trained."""
        return max(1, min(TOKENS // self.context, LOGITS // (self.context * self.vocabulary)))

    def _each_once(self, part: Tensor, starts: Tensor, shard: Shard) -> Iterator[Batch]:
        return (self._read(part, s, shard) for s in torch.split(starts, self._at_once()))

    def _read(self, part: Tensor, starts: Tensor, shard: Shard) -> Batch:
        """This process's share of the windows of ``part`` that begin at ``starts``."""
        whole = part[shard.of(starts)[:, None] + torch.arange(self.context + 1)].long()
        inputs, targets = whole[:, :-1], whole[:, 1:].contiguous()
        return Batch(inputs.contiguous(), targets, len(starts), self._kinds[inputs[:, -1]])

    @torch.no_grad()
    def log_probabilities(self, model: nn.Module, sentences: Sequence[str]) -> npt.NDArray[np.float64]:
        """What a model thinks of sentences: Σ_t log p(token t | the ``context`` tokens before it), in nats.

        A line end (a space, where the task's text has none) stands before each sentence, so that its first token has
        something before it too.

        Args:
            model: a trained model. It is put into evaluation mode, and back.
            sentences: texts.

        Returns:
            (sentences,); NaN for a sentence with a character that the task's text does not have.

        Raises:
            ValueError, TypeError: sentences that are no list of texts, or a text of characters without line end and
                space.
        """
        instance("model", model, nn.Module, "a torch.nn.Module")
        if isinstance(sentences, str) or not all(isinstance(s, str) for s in sentences):
            raise wrong_type("sentences", sentences, "a list of texts")
        before = next((self._numbers[ord(c)] for c in "\n " if ord(c) in self._numbers), None)
        if before is None:
            raise wrong("sentences", "a task whose text has neither line end nor space", "one with either")
        codes = [_codes(s, self.level).tolist() for s in sentences]
        numbers = [[before, *(self._numbers.get(code, -1) for code in one)] for one in codes]
        found = np.array([math.nan if -1 in one else 0.0 for one in numbers])
        # sentences of about one length together, so that little is padded
        order = sorted((k for k in range(len(numbers)) if not math.isnan(found[k])), key=lambda k: len(numbers[k]))
        training = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            for at in range(0, len(order), self._at_once()):
                self._add_up(model, numbers, order[at : at + self._at_once()], found)
        finally:
            for module, was in training:
                module.training = was
        return found

    def _add_up(
        self, model: nn.Module, numbers: list[list[int]], chosen: list[int], found: npt.NDArray[np.float64]
    ) -> None:
        """Add to ``found`` the log-probabilities of the sentences ``chosen``, each after the token before it."""
        c = self.context
        # a window begins at the sentence's start and gives all its tokens; each later one gives its last token alone
        rows = [(k, s) for k in chosen for s in range(max(1, len(numbers[k]) - c))]
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        for at in range(0, len(rows), self._at_once()):
            part = rows[at : at + self._at_once()]
            read = [numbers[k][s : s + c + 1] for k, s in part]
            longest = max(map(len, read))
            if longest < 2:
                continue  # empty sentences
            whole = torch.tensor([[*one, *[0] * (longest - len(one))] for one in read], device=device)
            targets = whole[:, 1:].contiguous()
            logits = self._logits(call(model, whole[:, :-1].contiguous()), targets)
            logs = logits.double().log_softmax(-1).gather(-1, targets[..., None])[..., 0].cpu().numpy()
            for (k, s), one, log in zip(part, read, logs, strict=True):
                told = log[: len(one) - 1]
                found[k] += told[-1] if s else told.sum()


def _codes(content: str, level: str) -> npt.NDArray[Any]:
    """The numbers of a text's characters in Unicode, or its bytes in UTF-8."""
    if level == "byte":
        return np.frombuffer(content.encode("utf-8", "surrogatepass"), dtype=np.uint8).copy()
    return np.frombuffer(content.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _size(name: str, given: float, tokens: int, context: int) -> int:
    """How many tokens a part of a text has, given as a number or as a share of all."""
    share = number(name, given, least=0.0)
    wanted = round(share * tokens) if share < 1 else count(name, int(share) if share.is_integer() else given)
    if wanted <= context:
        said = f"{given:g}, which is {wanted:,} of {tokens:,} tokens"
        raise wrong(name, said, f"more than {context}, which is the context")
    return wanted


def _kind(code: int, level: str) -> int:
    """The kind of a character: its number among :data:`KINDS`."""
    if level == "byte" and code > 127:
        return _OTHERS
    char = chr(code)
    category, base = unicodedata.category(char), unicodedata.normalize("NFD", char)[0]
    if category == "Ll" and base in "abcdefghijklmnopqrstuvwxyz":
        kind = "vowels" if base in "aeiou" else "consonants"
    elif category in ("Lu", "Lt"):
        kind = "capitals"
    elif category == "Nd":
        kind = "digits"
    elif char in "\n\r\u2028\u2029":
        kind = "line ends"
    elif category == "Zs" or char == "\t":
        kind = "spaces"
    elif char in "\"'`" or category in ("Pi", "Pf"):
        kind = "quotes"
    elif char in ".!?…":
        kind = "sentence ends"
    elif category.startswith("P"):
        kind = "punctuation"
    else:
        kind = "others"
    return KINDS.index(kind)


class Pairs(NamedTuple):
    """Minimal pairs: sentences that are alike but for a few words, of which one is good English and one is not."""

    good: list[str]
    bad: list[str]
    paradigm: list[str]  #: what each pair is about


def blimp(path: str = "blimp", data_root: str | None = None) -> Pairs:
    """The minimal pairs in files of BLiMP (Warstadt et al., TACL 2020), which has a line of JSON for each.

    Args:
        path: a file, or a folder of files that end in ``.jsonl``; as it is, or in ``data_root``, or in the folder
            ``text`` there.
        data_root: a folder with data; None: the one that the variable LOCALITY_PRIOR_DATA names.

    Returns:
        The pairs, file by file in the order of their names.

    Raises:
        ValueError: no such file, or one that is not in BLiMP's format.
    """
    found = _find(path, data_root)
    files = sorted(found.glob("*.jsonl")) if found.is_dir() else [found]
    if not files:
        raise wrong("path", f"{found}, which holds no file that ends in .jsonl", "BLiMP's files")
    pairs = Pairs([], [], [])
    for file in files:
        for k, line in enumerate(read_text(file, MOST).splitlines(), 1):
            try:
                told = json.loads(line)
                values = [told[key] for key in ("sentence_good", "sentence_bad", "UID")]
            except (ValueError, TypeError, KeyError, RecursionError):
                values = []
            if not values or not all(isinstance(value, str) and value for value in values):
                given = f"line {k} of {short(str(file))}"
                raise wrong("path", given, "an object with sentence_good, sentence_bad and UID")
            for part, value in zip(pairs, values, strict=True):
                part.append(value)
    return pairs
