"""What a run has made and how far it is: one folder, with everything that one job was told and did.

A recipe is resumed by entering it again from the top. A phase is skipped when ``done_results`` returns its results. The
open phase continues from its newest valid checkpoint, and ``truncate_logs`` cuts what was logged after it. Only process
0 writes.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftkit.config import Settings
from ftkit.config.yaml_files import read_yaml
from ftkit.errors import CheckpointError
from ftkit.runs.files import disk_full, disk_is_full, json_value, write_atomically, write_config, write_json
from ftkit.runs.integrity import file_record, folder_record, record_problem
from ftkit.runs.notebook import html_table

__all__ = ["RunFolder"]

_logger = logging.getLogger("ftkit.runs")
_SAMPLE_CHARS = 300  # of a passage in a notebook: three lines


class RunFolder:
    """The folder of one run; made by ``open_run``.

    Args:
        path: The folder.
        recipe: Name of the recipe that runs.
        manifest: What ``manifest.json`` holds.
        is_main: Whether this process writes.
        is_part: Whether it is made for another run: a base, or a point of a study.
    """

    def __init__(
        self, path: Path, recipe: str, manifest: dict[str, Any], is_main: bool, *, is_part: bool = False
    ) -> None:
        self.path, self.recipe, self.manifest, self.is_main = path, recipe, manifest, is_main
        self.is_part = is_part
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    @property
    def finished(self) -> bool:
        """Whether the run was complete before it was opened."""
        return bool(self.manifest["status"] == "done")

    def _repr_html_(self) -> str:
        """In a notebook: what came out, the beginning of what base and model write, and where it lies."""
        from ftkit.runs.evidence_file import read_evidence, written_passages  # which imports this file

        file = self.path / "verdict.json"
        verdicts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        said = [(name, " + ".join([found["verdict"], *found["also"]])) for name, found in verdicts.items()]
        rows = [("status", str(self.manifest.get("status", "running"))), *said]
        evidence = read_evidence(self.path)
        for name in verdicts:
            base, tuned = written_passages(evidence, name)
            if base and tuned:
                rows += [("base writes", base[0][:_SAMPLE_CHARS]), (f"{name} writes", tuned[0][:_SAMPLE_CHARS])]
        rows.append(("folder", str(self.path.resolve())))
        report = self.path / "report.html"
        if report.exists():
            place = Path(os.path.relpath(report)).as_posix()  # a notebook's links count from its folder
            rows.append(("report", Markup('<a href="{}" target="_blank">{}</a>').format(place, report.resolve())))
        return html_table(f"ftkit run: {self.recipe}", rows)

    def update_manifest(self, **values: Any) -> None:
        """Set values in the manifest."""
        self.manifest.update(values)
        self._write_manifest()

    def _write_manifest(self) -> None:
        if self.is_main:
            write_json(self.path / "manifest.json", json_value(self.manifest))

    def require_same(self, **values: str) -> None:
        """Set values that must be the same when the run is resumed.

        Raises:
            CheckpointError: One of them is another than the run was started with.
        """
        for name, value in values.items():
            if (before := self.manifest.get(name, value)) != value:
                raise CheckpointError(f"{self.path}: {name} was {before} when the run was started and is {value} now")
        self.update_manifest(**values)

    def unset_lengths(self, settings: Settings) -> frozenset[str]:
        """Lengths that nobody has set: by these settings, or in the run's ``config.yaml`` before ``settle``."""
        return settings.unset_lengths | frozenset(self.manifest.get("unset", ()))

    def written(self, name: str) -> Any:
        """Return a length that ``settle`` has written down; ``None`` before that."""
        return None if name in self.manifest.get("unset", ()) else self.manifest.get("settings", {}).get(name)

    def settle(self, **values: Any) -> None:
        """Write lengths that nobody had set into ``config.yaml`` and the manifest, where a resumed run finds them."""
        if self.is_main and (self.path / "config.yaml").exists():
            write_config(self.path, read_yaml(self.path / "config.yaml").values | values)
        unset = [name for name in self.manifest.get("unset", ()) if name not in values]
        self.update_manifest(settings=self.manifest.get("settings", {}) | values, unset=unset)

    def done_results(self, phase: str) -> dict[str, Any] | None:
        """What a finished phase left in the manifest; ``None`` while it is not finished."""
        found: dict[str, Any] | None = self.manifest["phases"].get(phase)
        return found

    def result(self, phase: str) -> dict[str, Any]:
        """What a finished phase left in the manifest.

        Raises:
            KeyError: The phase is not finished; recipes ask ``done_results`` first.
        """
        found: dict[str, Any] = self.manifest["phases"][phase]
        return found

    def mark_done(self, phase: str, **results: Any) -> dict[str, Any]:
        """Mark a phase as finished, with results that JSON can hold; its models get their hashes written down."""
        self.manifest["phases"][phase] = results
        record = self.manifest.setdefault("models", {})
        for folder in sorted((self.path / "models").glob("[!.]*")):
            if folder.name == phase or folder.name not in record:
                record[folder.name] = folder_record(folder)
        self._write_manifest()
        return results

    def trained_epochs(self, name: str) -> float:
        """Epochs after which a model was saved: those planned, or fewer where an earlier step was the best."""
        plan, best = self.manifest["plan"][name], self.manifest.get("best", {}).get(name)
        epochs: float = plan["passes"]
        return epochs * best["saved_step"] / plan["steps"] if best else epochs

    def step_choice(self, name: str) -> tuple[str, ...]:
        """What a verdict has to say where the held-out loss chose the step that was saved; else nothing."""
        best = self.manifest.get("best", {}).get(name)
        if not best or best["saved_step"] == best["last_step"]:
            return ()
        chosen = (
            f"step {best['saved_step']:,} of {best['last_step']:,} was saved because its loss on this held-out text"
        )
        return (f"{chosen} was the lowest, so the gain is a little too high",)

    def check_models(self) -> None:
        """Compare the models of finished phases with what was written down of them.

        Raises:
            CheckpointError: One has changed, so what would be built on it is not what the run says.
        """
        for name, record in self.manifest.get("models", {}).items():
            if problem := record_problem(self.model(name), record):
                raise CheckpointError(
                    f"{self.model(name)}: {problem}; what follows would rest on it. Bring the file back, "
                    "or start a new run; 'ftkit check' names everything that has changed"
                )

    def checkpoints(self, phase: str) -> Path:
        """Folder of a phase's checkpoints."""
        return self.path / "checkpoints" / phase

    def model(self, name: str) -> Path:
        """Folder of a finished model."""
        return self.path / "models" / name

    def log(self, file: str, *records: dict[str, Any]) -> None:
        """Append JSON lines to ``metrics.jsonl`` or ``samples.jsonl``."""
        if self.is_main and records:
            lines = "".join(json.dumps(json_value(record), ensure_ascii=False) + "\n" for record in records)
            try:
                with (self.path / file).open("a", encoding="utf-8") as stream:
                    stream.write(lines)
            except OSError as error:
                if disk_is_full(error):
                    raise disk_full(self.path / file, error, len(lines.encode())) from None
                raise
            for listener in self.listeners if file == "metrics.jsonl" else ():
                for record in records:
                    listener(record)

    def records(self, file: str) -> list[dict[str, Any]]:
        """Read a file of JSON lines; a last line that a kill has cut is left out."""
        path = self.path / file
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").split("\n"):  # text may hold U+2028, where splitlines cuts
            if not line:
                continue
            try:
                found.append(json.loads(line))
            except ValueError:
                _logger.warning("%s: left out a line that was cut: %r", path, line[:60])
        return found

    def truncate_logs(self, model: str, step: int) -> None:
        """Cut what was logged for a model after a step, so that a resumed run logs it once.

        Args:
            model: The records' ``model``.
            step: The newest step to keep; -1 keeps none.
        """
        if not self.is_main:
            return
        for file in ("metrics.jsonl", "samples.jsonl"):
            if (self.path / file).exists():
                kept = [r for r in self.records(file) if r.get("model") != model or r["step"] <= step]
                write_atomically(self.path / file, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept))

    def write_json(self, file: str, value: Any) -> None:
        """Write ``evidence.json``, ``verdict.json`` and the like; a number that is not finite becomes ``null``."""
        if self.is_main:
            write_json(self.path / file, json_value(value))
            self._record(file)
            self._write_manifest()

    def _record(self, *files: str) -> None:
        """Take size and hash of files into the manifest, by which ``ftkit check`` knows them."""
        for file in files:
            if (self.path / file).exists():
                self.manifest.setdefault("files", {})[file] = file_record(self.path / file)

    def write_text(self, file: str, text: str) -> Path:
        """Write a text file, e.g. ``report.html``."""
        if self.is_main:
            write_atomically(self.path / file, text)
        return self.path / file
