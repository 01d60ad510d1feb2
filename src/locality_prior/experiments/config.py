"""What a run is: frozen, plain, and written into its directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from locality_prior import cost as costs
from locality_prior._check import count, positive, wrong
from locality_prior._files import write_text

DataName = Literal["digits", "mnist", "imagenet"]
RecipeName = Literal["sgd", "rmsprop"]
Layer = Literal["fc6", "fc7"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
Preset = Literal["full", "small"]
T = TypeVar("T")

#: What a run's directory holds …
CONFIG, METRICS, STATE, MODEL, ACTIVATIONS, PRUNING, ANALYSIS, PROGRESS, LOGS = (
    "config.yaml",
    "metrics.csv",
    "state.pt",
    "model.safetensors",
    "activations.npz",
    "pruning.csv",
    "analysis.json",
    "progress.json",  # while it is trained
    "logs",  # TensorBoard's, of a long run
)
#: What the network without a wiring cost is called.
CONTROL = "control"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the source document's MNIST table, with SGD for its RMSProp."""

    optimizer: RecipeName = "sgd"
    lr: float = 0.01
    momentum: float = 0.5
    weight_decay: float = 0.01  # the optimiser's own L2, on all parameters
    epochs: int = 10
    batch_size: int = 64  # over all devices
    l1: float = 0.0  # times ‖W‖₁ of the locality layer, added to the loss
    drop_every: int = 0  # epochs after which lr falls tenfold, again and again; 0: never
    precision: Precision = "32-true"


@dataclass(frozen=True)
class AlexNet:
    """What of AlexNet is trained, on photographs in folders."""

    layer: Layer = "fc7"  # fc7: 4096 → 4096, what the document's authors call FC6; fc6: the 9216 → 4096 before it
    crop: int = 224  # side of what the network sees of a photograph
    width: float = 1.0  # of its convolutions, as a share of AlexNet's


#: The document's table says RMSProp; SGD with the same numbers is what gives its results (98.1 / 97.9 % on MNIST).
#: On 2 cores an MNIST network takes about two and a half minutes, a digits one a few seconds.
RECIPES: dict[str, Recipe] = {"sgd": Recipe(), "rmsprop": Recipe(optimizer="rmsprop")}

#: The same for ImageNet: SGD with torchvision's own settings for AlexNet, and the document's RMSProp.
IMAGENET_RECIPES: dict[str, Recipe] = {
    "sgd": Recipe("sgd", 0.01, 0.9, 1e-4, epochs=90, batch_size=256, drop_every=30),
    "rmsprop": Recipe("rmsprop", 0.1, 0.9, 1e-4, epochs=90, batch_size=256),
}

#: AlexNet as it is, and one that two cores train in minutes: what differs from the recipe, the network and the sheet.
PRESETS: dict[Preset, tuple[dict[str, Any], AlexNet, tuple[int, int]]] = {
    "full": ({}, AlexNet(), (64, 64)),
    "small": ({"epochs": 8, "batch_size": 64, "drop_every": 6}, AlexNet(crop=64, width=0.5), (32, 32)),
}


def standard(experiment: str, recipe: str, preset: Preset = "full") -> tuple[Recipe, tuple[int, int], AlexNet | None]:
    """The recipe, the sheet and the network of an experiment by name."""
    if experiment != "imagenet":
        return RECIPES[recipe], (7, 7), None
    differs, alexnet, sheet = PRESETS[preset]
    return dataclasses.replace(IMAGENET_RECIPES[recipe], **differs), sheet, alexnet


@dataclass(frozen=True)
class Run:
    """One network: what it learns, what its wires cost, how it is trained."""

    data: DataName
    cost: str = "linear"
    recipe: Recipe = RECIPES["sgd"]
    seed: int = 1
    sheet: tuple[int, int] = (7, 7)  # the units before and after the layer
    alexnet: AlexNet | None = None  # with imagenet; the others train a LeNet
    shuffled: bool = False  # whether each row of P is in an order of its own, which the seed gives: the null of a map

    def __post_init__(self) -> None:
        known("data", self.data, get_args(DataName))
        known("recipe", self.recipe.optimizer, get_args(RecipeName))
        known("precision", self.recipe.precision, get_args(Precision))
        if (self.data == "imagenet") != (self.alexnet is not None):
            raise wrong("alexnet", self.alexnet, f"{'an AlexNet' if self.alexnet is None else 'none'} for {self.data}")
        if self.alexnet is not None:
            known("layer", self.alexnet.layer, get_args(Layer))
            count("crop", self.alexnet.crop, least=35)  # less, and its pools leave nothing
            positive("width", self.alexnet.width)
        costs.parse(self.cost)
        positive("lr", self.recipe.lr)
        count("epochs", self.recipe.epochs)
        count("drop_every", self.recipe.drop_every, least=0)
        count("batch_size", self.recipe.batch_size, least=2)  # BatchNorm has no use for one image
        for name in ("momentum", "weight_decay", "l1"):
            if not getattr(self.recipe, name) >= 0:
                raise wrong(name, getattr(self.recipe, name), "a number of at least 0")
        if count("seed", self.seed, least=0) >= 2**63:
            raise wrong("seed", self.seed, "a whole number below 2⁶³")
        object.__setattr__(self, "sheet", tuple(count("sheet", n) for n in self.sheet))


def known(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise where ``value`` is not one of ``choices``."""
    if value not in choices:
        raise wrong(name, repr(value), f"one of {', '.join(map(str, choices))}")


def plain(value: Any) -> Any:
    """A config as mappings, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def run_from(values: dict[str, Any]) -> Run:
    """The run that :func:`plain` values describe; what they do not name is as it was before it could be chosen."""
    return Run(**parts(values))


def parts(values: dict[str, Any]) -> dict[str, Any]:
    alexnet = values.get("alexnet")
    return {
        **values,
        "recipe": Recipe(**values["recipe"]),
        "sheet": tuple(values.get("sheet", (7, 7))),
        "alexnet": None if alexnet is None else AlexNet(**alexnet),
    }


def read_run(directory: Path) -> Run:
    """The config of the run in ``directory``."""
    return read_config(directory / CONFIG, run_from)


def read_config(path: Path, make: Callable[[dict[str, Any]], T]) -> T:
    try:
        return make(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise wrong("directory", str(path.parent), f"one that holds {path.name}") from None
    except (yaml.YAMLError, TypeError, KeyError, AttributeError, UnicodeDecodeError, NotADirectoryError) as error:
        raise wrong("directory", f"{path} ({type(error).__name__})", "a readable config") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: it is not there, or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong("file", f"{path} ({type(error).__name__})", "a YAML file that can be read") from None


def claim_run(directory: Path, run: Run) -> None:
    """Make ``directory`` the home of ``run``, or check that it is (:func:`check_run`)."""
    check_run(directory, run)
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / CONFIG).exists():
        write_text(directory / CONFIG, yaml.safe_dump(plain(run), sort_keys=False))


def check_run(directory: Path, run: Run) -> None:
    """Raise where ``directory`` cannot be, or already is not, the home of ``run``; nothing is written."""
    if vacant(directory, CONFIG):
        return
    found = read_run(directory)
    if found != run:
        raise wrong("out", f"{directory}, which holds {difference(found, run)}", "a new directory or the same settings")


def vacant(directory: Path, config: str) -> bool:
    """Whether ``directory`` may be written to from nothing; False where it holds ``config`` already."""
    for parent in (directory, *directory.parents):
        if parent.exists() and not parent.is_dir():
            raise wrong("out", str(directory), f"a directory ({parent} is a file)")
    if (directory / config).exists():
        return False
    strangers = (
        [p.name for p in directory.iterdir() if not p.name.startswith(".partial-")] if directory.exists() else []
    )
    if strangers:
        raise wrong(
            "out", f"{directory}, which holds {sorted(strangers)[0]} but no {config}", "a new or empty directory"
        )
    return True


def difference(found: Any, wanted: Any) -> str:
    a, b = (_flat(plain(v)) for v in (found, wanted))
    return ", ".join(f"{k} = {a.get(k)} (asked: {b.get(k)})" for k in a | b if a.get(k) != b.get(k))


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted names; those of a study's conditions together."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = value if isinstance(value, dict) and key != "conditions" else None
        flat |= {key: value} if inner is None else {f"{key}.{k}": v for k, v in inner.items()}
    return flat
