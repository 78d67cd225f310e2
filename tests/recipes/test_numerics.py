"""The recipe ``numerics`` as users start it: figures, findings, resume, check, and wrong names."""

import html
import json
from pathlib import Path

import pytest
from processes import Running

from ftkit.config.catalogue import find_recipe, load_recipe
from ftkit.lab.sections import NUMERICS
from ftkit.report.figures import draw_csv


def ftkit(*arguments: object):
    done = Running("-m", "ftkit", *arguments, COLUMNS="200").wait()
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A whole fast run and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "numerics"
    done = ftkit("run", "numerics", "--fast", "--output_dir", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def evidence(run: Path) -> dict:
    return json.loads((run / "evidence.json").read_text(encoding="utf-8"))


def test_every_experiment_has_a_finding_a_table_and_figures(ran):
    run, said = ran
    found = evidence(run)
    assert tuple(found["numerics"]) == load_recipe(find_recipe("numerics")).EXPERIMENTS
    assert found["finding"] == "12 of 12 experiments agree with what theory says."
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert "<h1>12 numerical experiments</h1>" in page
    for name, outcome in found["numerics"].items():
        assert outcome["finding"] in said
        assert outcome["finding"] in page
        assert outcome["question"].endswith("?")
        assert all(len(row) == len(outcome["table"]["columns"]) for row in outcome["table"]["rows"])
        for panel in outcome["panels"]:
            file = "-".join(part for part in ("numerics", name, panel["name"]) if part)
            assert f'id="{file}-caption"' in page
            csv = run / "figures" / f"{file}.csv"
            assert len(csv.read_text(encoding="utf-8").splitlines()) == 1 + sum(
                len(line["x"]) for line in panel["lines"]
            )
            assert csv.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert draw_csv(csv, [], NUMERICS) == csv.with_suffix(".svg").read_text(encoding="utf-8")


def test_a_finished_run_resumes_and_checks(ran):
    run, said = ran
    resumed = ftkit("resume", run)
    assert resumed.returncode == 0
    assert resumed.stdout.splitlines()[-3:] == said.splitlines()[-3:]
    assert ftkit("check", run).returncode == 0


def test_chosen_experiments_alone_are_run_and_a_stopped_run_keeps_what_is_sealed(ran, tmp_path):
    run = tmp_path / "some"
    assert ftkit("run", "numerics", "--fast", "--experiments", "schedules,softmax", "--output_dir", run).returncode == 0
    written = evidence(run)
    found = written["numerics"]
    assert list(found) == ["softmax", "schedules"]
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert list(manifest["phases"]) == ["softmax", "schedules"]

    # As a kill after the first experiment leaves it; the mark shows that it is not measured again.
    del manifest["phases"]["schedules"], found["schedules"], manifest["files"]["evidence.json"]
    found["softmax"]["finding"] = "kept"
    (run / "evidence.json").write_text(json.dumps(written | {"finding": ""}), encoding="utf-8")
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}), encoding="utf-8")
    done = ftkit("resume", run)
    assert done.returncode == 0, done.stderr
    again = evidence(run)["numerics"]
    assert again["softmax"]["finding"] == "kept"
    assert again["schedules"] == evidence(ran[0])["numerics"]["schedules"]


def test_a_page_is_drawn_again_and_names_what_is_against_theory(ran, tmp_path):
    run = tmp_path / "planted"
    assert ftkit("run", "numerics", "--fast", "--experiments", "schedules", "--output_dir", run).returncode == 0
    page = (run / "report.html").read_bytes()
    assert ftkit("report", run).returncode == 0
    assert (run / "report.html").read_bytes() == page
    planted = evidence(run)
    planted["numerics"]["schedules"]["agrees"] = False
    (run / "evidence.json").write_text(json.dumps(planted), encoding="utf-8")
    done = ftkit("report", run)
    assert "NOT WHAT THEORY SAYS: The warm-up ends" in done.stdout
    assert "not what theory says" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "numerics", "--experiments", "sofmax"], "did you mean 'softmax'?"),
        (["run", "numerics", "--drawn_model", "new:gpt2"], "new:ftkit_gpt2"),
        (["run", "numerics", "--attention_tokens", "1"], "at least 2"),
        (["plan", "numerics"], "nothing to plan"),
    ],
)
def test_a_mistake_is_a_config_error(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ftkit(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
