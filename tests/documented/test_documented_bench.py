"""scripts/bench runs, and says what it measured; never how fast."""

import json
from pathlib import Path

from processes import python

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
PARTS = [
    "train-small",
    "llama",
    "sft-lora",
    "head",
    "generation",
    "classification",
    "matmul-small",
    "overhead-tiny",
    "devices-small",
    "growth-text",
]


def test_every_kind_of_part_runs_and_is_written_down(tmp_path):
    folder = tmp_path / "sentences"
    folder.mkdir()
    for name, word in (("bad", "dull"), ("good", "fine")):
        (folder / f"{name}.txt").write_text("\n".join(f"{word} " * n for n in range(1, 40)), encoding="utf-8")
    done = python(BENCH, *PARTS, "--quick", "--repeats", 2, "--json", tmp_path / "found.json", "--sentences", folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert {"device", "threads", "torch", "transformers"} <= found["machine"].keys()
    names = [section["name"] for section in found["sections"]]
    assert [part for part in PARTS if any(name.startswith(part) for name in names)] == PARTS
    for section in found["sections"]:
        assert section["name"] in done.stdout
        assert section["results"]
        for arm in section["arms"].values():
            assert len(arm["seconds"]) == len(arm["cpu_seconds"]) == 2
            assert 0 < arm["least"] == min(arm["seconds"]) <= arm["median"]
        for result in section["results"]:
            assert result["measure"] in done.stdout
    train = found["sections"][0]
    least = {arm: times["least"] for arm, times in train["arms"].items()}
    first = train["results"][0]
    arm, beside = first["measure"].split(" : ")
    assert first["least"] == least[beside] / least[arm]
    [texts] = [section["facts"]["texts"] for section in found["sections"] if section["name"] == "classification"]
    assert texts == 78
