"""A recipe runs on tables and compressed texts as on plain ones: the same words are learned."""

import csv
import gzip
import json
from pathlib import Path

import datasets
import pytest
from recipe_runs import lines, read, run_recipe

from ftkit.data import voice_text


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One text in several forms, each paragraph a row."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"id": n, "text": part} for n, part in enumerate(voice_text("keeper", 6000).split("\n\n"))]
    with gzip.open(folder / "rows.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = datasets.Dataset.from_list(rows)
    data.to_parquet(folder / "tables" / "train-0.parquet")
    data.save_to_disk(folder / "saved")
    return folder


@pytest.mark.nightly
def test_every_form_of_a_text_trains_the_same_model(texts: Path, tmp_path: Path) -> None:
    seen = set()
    for name in ("rows.csv.gz", "rows.ndjson#text", "tables", "saved"):
        run = run_recipe("pretrain", tmp_path / name, corpus=texts / name, max_steps=2)
        assert read(run, "manifest.json")["status"] == "done"
        losses = [row["loss"] for row in lines(run, "metrics.jsonl") if row["split"] == "train"]
        seen.add((read(run, "manifest.json")["data"]["corpus"]["sha256"], *losses))
        assert len(losses) == 2
    assert len(seen) == 1
