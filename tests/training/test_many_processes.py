"""One, two and four real processes with gloo on the CPU: one batch, one result, however many share it.

Two jobs are all: each runs many trainings and writes down what it saw. One process is the test's own. What a launcher
does is tested in tests/runs/test_processes.py.
"""

import json
import os
from pathlib import Path
from typing import Any

import many_processes as job
import numpy as np
import pytest
import torch
from conftest import FAMILIES, tiny
from filelock import FileLock
from processes import ranks
from safetensors.torch import load_file

from ftkit.models import load_model

LOSS, WEIGHT = 1e-6, 5e-6


def launched(folder: Path, processes: int, *parts: str) -> dict[str, Any]:
    """What a job has written down; it runs once, whoever of several test processes asks first."""
    result = folder / f"found-{processes}.json"
    with FileLock(folder / f"{processes}.lock"):
        if not result.exists():
            done = ranks(processes, job.__file__, folder, *parts)
            assert [one.returncode for one in done] == [0] * processes, "\n".join(one.stderr[-2000:] for one in done)
    found: dict[str, Any] = json.loads(result.read_text())
    assert found["processes"] == processes
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "many-processes"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    return {"families": job.families(folder), "others": job.others(folder), "pair": job.pair(folder)}


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, Any]:
    parts = (
        "families", "others", "pair", "best:whole", "cut:whole", "divide", "divided", "best:shards", "cut:shards",
        "resumed:whole", "refused",
    )  # fmt: skip
    return launched(folder, 2, *parts)


@pytest.fixture(scope="module")
def four(folder: Path, two: dict[str, Any]) -> dict[str, Any]:
    return launched(folder, 4, "families", "pair", "resumed:whole", "resumed:shards", "divide", "resumed:shards")


def assert_same(found: dict[str, Any], reference: dict[str, Any]) -> None:
    """The same training, from wherever on it was looked at."""
    first = reference["steps"].index(found["steps"][0])
    for key in ("steps", "targets", "rates"):
        assert found[key] == reference[key][first:]
    assert np.allclose(found["losses"], reference["losses"][first:], rtol=LOSS, atol=0)
    assert np.allclose(found["cut"], reference["cut"][first:], rtol=1e-5, atol=0)
    for norms, expected in zip(found["norms"], reference["norms"][first:], strict=True):
        assert norms.keys() == expected.keys()
        assert np.allclose(list(norms.values()), list(expected.values()), rtol=1e-4, atol=1e-7)
    assert np.allclose(found["weights"], reference["weights"], rtol=0, atol=WEIGHT)
    assert found["ranks_differ"] == 0.0


def test_every_block_is_divided_by_itself(two):
    assert two["divided"]["own"]["parts"] == ["", "model.model.layers.0", "model.model.layers.1"]
    assert two["divided"]["own"]["largest"] < 0.51


def test_the_model_is_whole_on_process_0_to_evaluate_and_to_sample(two, folder):
    for (loss, text), (expected, expected_text) in zip(two["divided"]["own"]["looks"], job.looked(folder), strict=True):
        assert loss == pytest.approx(expected, rel=LOSS)
        assert text == expected_text


@pytest.mark.parametrize("family", [*FAMILIES, "bert"])
def test_one_two_and_four_processes_are_one_training(one, two, four, family):
    for many in (two, four):
        assert_same(many["families"][family], one["families"][family])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_is_read_once_and_in_the_step_where_one_process_reads_it(one, two, four, family):
    expected = list(range(job.STEPS * job.BATCH))
    assert one["families"][family]["rows"] == expected
    for many, processes in ((two, 2), (four, 4)):
        rows, each = many["families"][family]["rows"], job.BATCH // processes
        by_process = np.reshape(rows, (processes, job.STEPS, each))
        assert np.array_equal(by_process.transpose(1, 0, 2).ravel(), expected)


def test_the_schedule_goes_one_step_for_an_update_whatever_the_number_of_processes(two, four):
    for many in (two, four):
        assert many["families"]["gpt2"]["steps"] == [1, 2, 3, 4]
        # Two steps of warm-up to 1e-3, then linearly to 0 at the end of the last.
        assert np.allclose(many["families"]["gpt2"]["rates"], [5e-4, 1e-3, 1e-3, 5e-4])


@pytest.mark.parametrize("case", ["sliced", "timed", "thawed", "lora"])
def test_two_processes_clip_freeze_thaw_and_adapt_as_one(one, two, case):
    assert_same(two["others"][case], one["others"][case])


def test_two_processes_accumulate_as_one_goes_through_the_batch_at_once(one, two):
    assert_same(two["others"]["accumulated"], one["families"]["gpt2"])


def test_what_is_frozen_stays_so_on_two_processes_and_thaws_in_the_same_step(one, two):
    assert one["others"]["proof"] == two["others"]["proof"] == {
        "leaks": [], "moved": [[], [], ["mlp"], ["mlp"]], "ranks_differ": 0.0
    }  # fmt: skip


def test_dropout_is_drawn_on_each_process_by_itself(one, two):
    found, alone = two["others"]["dropout"], one["others"]["dropout"]
    assert found["ranks_differ"] == 0.0
    assert found["losses"][0] == pytest.approx(alone["losses"][0], rel=0.02)
    assert abs(found["losses"][0] / alone["losses"][0] - 1) > 100 * LOSS


def test_a_pair_in_lock_step_is_the_same_on_two_and_four_processes(one, two, four):
    for many in (two, four):
        assert many["pair"]["order"] == ["all", "norms"] * job.STEPS
        assert np.allclose(many["pair"]["losses"], one["pair"]["losses"], rtol=LOSS, atol=0)
        assert many["pair"]["ranks_differ"] == 0.0
        for name, expected in one["pair"]["weights"].items():
            assert np.allclose(many["pair"]["weights"][name], expected, rtol=0, atol=WEIGHT)


@pytest.mark.parametrize("written", ["whole", "shards"])
def test_what_two_processes_have_left_is_resumed_by_one_and_by_four(one, two, four, folder, written):
    files = two[f"cut:{written}"]["files"]
    assert ("model.safetensors" in files) == (written == "whole")
    assert ("model-00001-of-00002.safetensors" in files) == (written == "shards")
    reference = one["families"]["gpt2"]
    for found in (job.resumed(folder, written), four[f"resumed:{written}"]):
        assert found["steps"] == [3, 4]
        assert_same(found, reference)


@pytest.mark.parametrize("written", ["whole", "shards"])
def test_two_processes_stop_at_one_step_and_go_back_to_the_same_best_weights(two, folder, written):
    alone, found = job.best(folder, written)["whole"], two[f"best:{written}"]["whole"]
    for key in ("step", "last_step", "saved_step"):
        assert found[key] == alone[key]
    assert found["step"] < found["last_step"] < 30
    assert found["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert found["weights"] == found["then"]
    assert found["ranks_differ"] == 0.0
    assert len(set(found["every_process"])) == 1
    resumed = two[f"best:{written}"]["resumed"]
    for key in ("step", "last_step", "loss", "last_loss", "weights"):
        assert resumed[key] == found[key]
    (place,) = folder.glob(f"best-{written}-2-whole/checkpoints/model/best/step-{found['step']:06d}")
    assert (place / "model-00001-of-00002.safetensors").exists() == (written == "shards")


def test_shards_of_two_processes_hold_each_row_once(two, folder):
    place = folder / "shards" / f"step-{job.STEPS // 2:06d}"
    first, second = (load_file(place / f"model-0000{number}-of-00002.safetensors") for number in (0, 1))
    assert first.keys() == second.keys() == dict(tiny("gpt2").named_parameters()).keys()
    for name, parameter in tiny("gpt2").named_parameters():
        assert torch.cat([first[name], second[name]]).shape == parameter.shape


@pytest.mark.parametrize("case", ["sliced", "timed", "lora"])
def test_divided_tensors_train_as_whole_ones(one, two, case):
    assert_same(two["divided"][case], one["others"][case])


def test_divided_tensors_train_as_whole_ones_where_a_part_is_tied(one, two):
    assert_same(two["divided"]["bert"], one["families"]["bert"])


def test_divided_tensors_go_on_from_a_whole_checkpoint(one, two):
    assert two["resumed:whole"]["steps"] == [3, 4]
    assert_same(two["resumed:whole"], one["families"]["gpt2"])


def test_the_model_is_an_ordinary_one_after_training_divided(one, two, folder):
    assert np.allclose(two["divided"]["own"]["weights"], one["families"]["ftkit_gpt2"]["weights"], rtol=0, atol=WEIGHT)
    assert np.array_equal(job.weights(load_model(str(folder / "saved"))), two["divided"]["own"]["weights"])


def test_an_error_of_one_process_ends_all_and_leaves_no_part_of_a_checkpoint(two):
    process_0, process_1 = two["refused"]
    asked = [["CheckpointError", "6"], ["DeviceError", "3"]]
    assert process_0[:2] == [["ConfigError", "2"], ["DeviceError", "3"]]
    assert process_1[:2] == [["PeerError", "2"], ["PeerError", "3"]]
    assert [process_0[2], process_1[2]] == [["PeerError", "6"], ["CheckpointError", "6"]]
    assert process_0[3:] == process_1[3:] == [asked[1], asked[1], []]
