"""ftkit's measures load as evaluate modules from a folder without the network, and classifiers take named metrics."""

import math
from dataclasses import asdict
from pathlib import Path

import evaluate
import numpy as np
import pytest
from sklearn.metrics import f1_score

from ftkit.data import VOICES, voice_text
from ftkit.errors import ConfigError, NetworkError
from ftkit.evidence import CopyIndex, copying, fluency, load_metrics, vocabulary_of
from ftkit.metrics import NAMES, metric_path
from ftkit.training import Predictions

F1 = """
import datasets
import evaluate
from sklearn.metrics import f1_score

class F1(evaluate.Metric):
    def _info(self):
        value = datasets.Value("int64")
        return evaluate.MetricInfo(description="", citation="", inputs_description="",
                                   features=datasets.Features({"predictions": value, "references": value}))

    def _compute(self, predictions, references, average="binary"):
        return {"f1": f1_score(references, predictions, average=average)}
"""


@pytest.fixture(autouse=True, scope="module")
def offline(tmp_path_factory):
    """No network, and no cache that could stand in for it; one for all tests, since evaluate imports from it."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("evaluate.config.HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr("evaluate.config.HF_METRICS_CACHE", folder / "metrics")
        patch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
        yield


@pytest.fixture
def f1(tmp_path) -> str:
    folder = tmp_path / "my_f1"
    folder.mkdir()
    (folder / "my_f1.py").write_text(F1)
    return str(folder)


def passages(seed: int) -> list[str]:
    name = next(iter(VOICES))
    return [voice_text(name, 60, seed=seed + n) for n in range(4)]


def test_every_measure_is_a_folder_that_loads():
    folders = {
        path.name for path in Path(metric_path("copying")).parent.iterdir() if (path / f"{path.name}.py").exists()
    }
    assert folders == set(NAMES)
    for name in NAMES:
        assert evaluate.load(metric_path(name)).description
    with pytest.raises(ConfigError, match="none of ftkit's"):
        metric_path("bleu")


def test_bits_per_byte_and_perplexity_are_the_closed_formulas():
    metric = evaluate.load(metric_path("bits_per_byte"))
    found = metric.compute(predictions=[2.0, 4.0, 3.0], references=[3, 5, 4], tokens=[2, 2, 1])
    assert found["bits_per_byte"] == pytest.approx(9 / math.log(2) / 12)
    assert found["perplexity"] == pytest.approx(math.exp(9 / 5))


def test_copying_and_fluency_say_what_the_library_says():
    train, heldout, written = passages(0), passages(10), [passages(0)[0], *passages(20)[:2]]
    module = evaluate.load(metric_path("copying"))
    found = module.compute(predictions=written, train_texts=train, heldout=heldout)
    assert found == asdict(copying(written, heldout, CopyIndex(train)))
    assert found["longest_run"] > 30
    module = evaluate.load(metric_path("fluency"))
    assert module.compute(predictions=written, known_texts=train) == asdict(fluency(written, vocabulary_of(train)))


def test_code_is_measured_and_not_run(tmp_path):
    mark = tmp_path / "mark"
    found = evaluate.load(metric_path("code_validity")).compute(predictions=[f"open({str(mark)!r}, 'w')", "def"])
    assert found["parses"]["value"] == 0.5
    assert not mark.exists()


def test_a_named_metric_gets_the_classes_and_its_options(f1):
    (metric,) = load_metrics([f"{f1}:average=macro"], 3, trusted=True)
    generator = np.random.default_rng(0)
    said = Predictions(np.log(generator.dirichlet(np.ones(3), 60)), generator.integers(0, 3, 60))
    theirs = f1_score(said.labels, said.log_probabilities.argmax(1), average="macro")
    assert metric.compute(said) == {"f1": pytest.approx(theirs)}


def test_a_metric_that_does_not_fit_is_known_before_training(f1, tmp_path):
    with pytest.raises(ConfigError, match="my_f1 cannot be computed"):
        load_metrics([f1], 3, trusted=True)  # binary F1 of three classes
    with pytest.raises(ConfigError, match="cannot be computed"):
        load_metrics([metric_path("fluency")], 2, trusted=True)
    with pytest.raises(ConfigError, match=r"has no file metrics\.py"):
        load_metrics([str(Path(metric_path("fluency")).parent)], 2, trusted=True)
    with pytest.raises(ConfigError, match="no option"):
        load_metrics([f"{f1}:macro"], 3, trusted=True)


def test_nothing_runs_without_trust(f1):
    with pytest.raises(ConfigError, match="trust_remote_code"):
        load_metrics([f1], 2, trusted=False)
    assert load_metrics([], 2, trusted=False) == []


def test_a_hub_metric_without_network_says_so():
    with pytest.raises(NetworkError, match="no folder here"):
        load_metrics(["accuracy"], 2, trusted=True)


def test_bits_per_byte_says_nothing_of_text_that_the_tokenizer_cannot_write():
    module = evaluate.load(str(metric_path("bits_per_byte")))
    known = {"predictions": [70.0, 80.0], "references": [50, 50]}
    few = module.compute(**known, unknown=[1, 0])
    assert few["unknown_share"] == pytest.approx(1 / 101)
    assert few["bits_per_byte"] == pytest.approx(150 / math.log(2) / 100)
    assert math.isnan(module.compute(**known, unknown=[40, 0])["bits_per_byte"])
