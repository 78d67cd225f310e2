"""Studies in settings: from ``sweep``, ``arms`` and ``seeds`` to the points of a study, all checked before one starts.

A point is what an ordinary run of the recipe would be told. File, ``--fast`` and flags are what all points share; the
values of arms and sweep stand above them.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from ftkit.config.catalogue import find_config
from ftkit.config.other_names import own_name, read_config
from ftkit.config.resolve import STUDY_KEYS, Flags, accepts, flag_value, read_flags, resolve
from ftkit.config.settings import Settings
from ftkit.errors import ConfigError

__all__ = ["Point", "Study", "StudySettings", "find_study", "label"]

_NOT_FOR_POINTS = {
    "output_dir": "every point has its own folder inside the study's output_dir",
    "resume": "'ftkit resume STUDY' goes on with a study",
    "seed": "repeats are given as seeds, so that all arms share them",
    "recipe": "a study compares settings of one recipe",
}


class StudySettings(Settings):
    """What ``config.yaml`` of a study holds: what is compared, and every setting that the points share."""

    model_config = ConfigDict(extra="allow")

    sweep: dict[str, list[Any]] = {}
    """Settings and the values of each; every combination is a point."""
    arms: dict[str, dict[str, Any]] = {}
    """Named arms, each with the settings in which it differs."""
    seeds: list[int] = []
    """Each point once for each of these seeds."""


@dataclass(frozen=True)
class Point:
    """One run of a study."""

    name: str
    """Its folder."""
    arm: str
    """What it is called beside the others; repeats with other seeds are called the same."""
    swept: dict[str, Any]
    """Value of each setting of the sweep."""
    settings: Settings
    folder: Path | None = None
    """Where a run lies that is compared with others afterwards; ``None``: in the study's ``points/``."""

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.settings.seed


@dataclass(frozen=True)
class Study:
    """A recipe at several points."""

    settings: StudySettings
    points: tuple[Point, ...]


@dataclass
class _Asked:
    """What file and flags say of a study, before it is checked."""

    sweep: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, Any] = field(default_factory=dict)
    seeds: list[Any] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    """Where each key stands, for messages."""
    problems: list[str] = field(default_factory=list)

    def say(self, key: str, text: str) -> None:
        self.problems.append(f"{self.places.get(key, key)}: {text}")


def find_study(settings_class: type[Settings], recipe: str, argv: Sequence[str]) -> Study | None:
    """The study that a command line asks for; ``None`` where it asks for one run.

    Args:
        settings_class: The recipe's settings.
        recipe: The recipe's name.
        argv: Arguments after the recipe's name.

    Raises:
        ConfigError: Everything that is wrong with any point, a line for each.
    """
    sweeps, seeds, rest = _take_flags(argv)
    flags = read_flags(settings_class, rest)
    located = read_config(find_config(flags.config), settings_class.model_fields) if flags.config is not None else None
    if flags.help or not (sweeps or seeds or (located and set(STUDY_KEYS) & set(located.values))):
        return None
    asked = _Asked()
    if located:
        asked.places = {key: f"{located.path}:{line}: {key}" for key, line in located.lines.items()}
        _read_file(asked, located.values)
    _read_sweeps(asked, sweeps, settings_class)
    if seeds:
        asked.places["seeds"] = "--seeds"
        asked.seeds = [flag_value(int, part.strip()) for text in seeds for part in text.split(",") if part.strip()]
    _check(asked)
    points = [] if asked.problems else _resolve(asked, settings_class, recipe, replace(flags, problems=[]))
    if problems := [*flags.problems, *asked.problems]:
        raise ConfigError("\n".join(problems))
    return Study(_study_settings(asked, points), tuple(point for point, _ in points))


def _take_flags(argv: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The texts after ``--sweep``, those after ``--seeds``, and all other arguments."""
    taken: dict[str, list[str]] = {"--sweep": [], "--seeds": []}
    rest, arguments = [], list(argv)
    while arguments:
        argument = arguments.pop(0)
        name, has_value, value = argument.partition("=")
        if name not in taken:
            rest.append(argument)
        else:
            taken[name].append(value if has_value else arguments.pop(0) if arguments else "")
    return taken["--sweep"], taken["--seeds"], rest


def _read_file(asked: _Asked, values: Mapping[str, Any]) -> None:
    for key, kind, form in (("sweep", dict, "name: [value, value]"), ("arms", dict, "name: {setting: value}")):
        found = values.get(key)
        if found is not None and not isinstance(found, kind):
            asked.say(key, f"is {found!r}; it must be lines of {form}")
        else:
            setattr(asked, key, dict(found or {}))
    seeds = values.get("seeds")
    if seeds is not None and not isinstance(seeds, list):
        asked.say("seeds", f"is {seeds!r}; it must be a list of whole numbers, e.g. [1, 2, 3]")
    asked.seeds = seeds if isinstance(seeds, list) else []


def _read_sweeps(asked: _Asked, sweeps: Sequence[str], settings_class: type[Settings]) -> None:
    """``name=value,value``; values that hold commas are separated by ``|``."""
    fields = settings_class.model_fields
    for text in sweeps:
        name, equals, values = text.partition("=")
        name = own_name(name.strip().replace("-", "_"), fields)
        place = f"--sweep {name}"
        if not equals:
            asked.problems.append(f"--sweep: takes name=value,value, found {text!r}")
        elif name in fields and accepts(fields[name].annotation, dict):
            asked.problems.append(f"{place}: takes name: value lines; sweep it with arms in a configuration")
        else:
            parts = values.split("|" if "|" in values else ",")
            annotation = fields[name].annotation if name in fields else None  # what does not exist is said later
            asked.sweep[name] = [flag_value(annotation, part.strip()) for part in parts if part.strip()]
            asked.places[f"sweep.{name}"] = place


def _check(asked: _Asked) -> None:
    """The form of a study; whether its values are right shows when each point is resolved."""
    for name, values in asked.sweep.items():
        key = f"sweep.{name}"
        if not isinstance(values, list) or not values:
            asked.say(key, f"is {values!r}; a sweep needs a list of values")
        elif len({label(value) for value in values}) < len(values):
            asked.say(key, f"is {values!r}; each value once")
    for arm, changes in asked.arms.items():
        if changes is not None and not isinstance(changes, dict):
            asked.say(f"arms.{arm}", f"is {changes!r}; an arm is lines of setting: value, or {{}}")
    asked.arms = {arm: changes if isinstance(changes, dict) else {} for arm, changes in asked.arms.items()}
    given = [(f"sweep.{name}", name) for name in asked.sweep]
    given += [(f"arms.{arm}.{name}", name) for arm, changes in asked.arms.items() for name in changes]
    for key, name in given:
        if name in _NOT_FOR_POINTS:
            asked.say(key, f"cannot differ between points: {_NOT_FOR_POINTS[name]}")
    for name in set(asked.sweep) & {name for changes in asked.arms.values() for name in changes}:
        asked.say(f"sweep.{name}", "is set by an arm too; give it in one of them")
    if len(set(map(label, asked.seeds))) < len(asked.seeds):
        asked.say("seeds", f"is {asked.seeds!r}; each seed once")


def label(value: Any) -> str:
    """A value as it stands in the name of a point."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ",".join(f"{name}={label(inner)}" for name, inner in value.items())
    return ",".join(map(label, value)) if isinstance(value, list) else str(value)


def _combinations(asked: _Asked) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Arm, swept values and seed of each point; all arms of one seed stand together."""
    for seed, arm, values in itertools.product(
        asked.seeds or [None], asked.arms or [""], itertools.product(*asked.sweep.values())
    ):
        yield arm, dict(zip(asked.sweep, values, strict=True)), seed


def _folder(arm: str, seed: int | None, taken: set[str]) -> str:
    """A name that every file system takes, once."""
    slug = re.sub(r"[^\w.=,+-]+", "_", arm).strip("._")[:80] or "arm"
    name = first = slug if seed is None else f"{slug}-seed{label(seed)}"
    for count in itertools.count(2):
        if name.casefold() not in taken:
            break
        name = f"{first}-{count}"
    taken.add(name.casefold())
    return name


def _resolve(asked: _Asked, settings_class: type[Settings], recipe: str, flags: Flags) -> list[tuple[Point, set[str]]]:
    """Every point and what it changes; what is wrong with any is noted once, with the point where it is not in all."""
    found: list[tuple[Point, set[str]]] = []
    wrong: dict[str, list[str]] = {}
    everything: list[str] = []
    taken: set[str] = set()
    for arm, swept, seed in _combinations(asked):
        changes: dict[str, Any] = dict(asked.arms.get(arm, {}))
        parts = [arm, *(f"{name}={label(value)}" for name, value in swept.items())]
        title = ", ".join(part for part in parts if part) or recipe
        name = _folder(title, seed if len(asked.seeds) > 1 else None, taken)
        over = {key: (value, asked.places.get(f"arms.{arm}.{key}", key)) for key, value in changes.items()}
        over |= {key: (value, asked.places.get(f"sweep.{key}", key)) for key, value in swept.items()}
        if seed is not None:
            over["seed"] = (seed, asked.places.get("seeds", "seeds"))
        everything.append(name)
        try:
            found.append((Point(name, title, swept, resolve(settings_class, recipe, flags, over).settings), set(over)))
        except ConfigError as error:
            own = tuple(place for _, place in over.values())
            for line in str(error).split("\n"):
                wrong.setdefault(line, []).append("" if line.startswith(own) else name)
    for line, names in wrong.items():
        of_all = "" in names or set(everything) <= set(names)  # "": it names its point already
        asked.problems.append(line if of_all else f"{line} (at the point {names[0]})")
    return found


def _study_settings(asked: _Asked, points: Sequence[tuple[Point, set[str]]]) -> StudySettings:
    """The study as a configuration: each setting as it is at a point that does not change it."""
    shared: dict[str, Any] = {}
    for point, changed in points:
        values = point.settings.model_dump(mode="json", exclude=changed | point.settings.unset_lengths)
        shared = values | shared
    first = points[0][0].settings
    shared |= {"output_dir": first.output_dir, "resume": first.resume}
    return StudySettings(**shared, sweep=asked.sweep, arms=asked.arms, seeds=asked.seeds)
