"""The page is one file that needs nothing else, holds what the run folder holds, and trusts no text."""

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import around, empty_run, evidence_of, prose, style_score, write_run

from ftkit import __version__
from ftkit.errors import CheckpointError
from ftkit.evidence import Interval
from ftkit.evidence.measure import Outcome
from ftkit.evidence.measures.language import Language, LanguageMeasure
from ftkit.evidence.measures.style import Style, StyleMeasure
from ftkit.report import write_report
from ftkit.report.measures import marked_parts
from ftkit.runs import EVIDENCE_VERSION, RunFolder


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_refers_to_nothing_outside_itself(full_report: Path) -> None:
    page = full_report.read_text(encoding="utf-8")
    ids = Counter(attributes["id"] for _, attributes in Elements(page).found if "id" in attributes)
    references = []
    for _, attributes in Elements(page).found:
        references += [
            attributes[name] or "" for name in ("src", "href", "action", "srcset", "data") if name in attributes
        ]
    assert [number for number in ids.values() if number > 1] == []
    assert len(references) > 50
    assert [reference for reference in references if reference != "data:," and reference[1:] not in ids] == []
    assert {reference[0] for reference in references} == {"#", "d"}
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "@import" not in page


def test_the_content_policy_allows_our_script_and_nothing_else(full_report: Path) -> None:
    page = full_report.read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';" in policy[1]


def test_text_names_and_settings_never_become_markup(evil_report: Path) -> None:
    page = evil_report.read_text(encoding="utf-8")
    elements = Elements(page).found
    assert page.count("window.owned=1") > 50
    assert sum(tag == "script" for tag, _ in elements) == 1
    assert sum(tag in ("img", "textarea", "iframe", "object") for tag, _ in elements) == 0
    assert [name for _, attributes in elements for name in attributes if name.startswith("on")] == []
    assert "\x00" not in page
    assert "␀␛&lt;/script&gt;" in page


@pytest.mark.parametrize(
    "words",
    [
        "It needs 2.02 bits per byte for unseen text of alice",
        "Style, judge ngrams",
        "also: forgot",
        "Repeat the run with two or three other values of seed",
        prose(5, 14),  # the longest copied run
        prose(4), prose(90), prose(0),  # tuned, real and base passages
        "124,439,808",
        "26,443",
        "licence (18,841 characters)",
        "85664982973bfdd1" * 4,
        "for one training seed",
        "style_position",
        "learning_rate",
        "100.0 % [95.4, 100.0] of the unseen passages go to the right model",
        "0.052 [0.042, 0.062]",  # gap between training and held-out text
        "0.123 [0.113, 0.133]",  # KL to the base
        "most distinctive tokens of 1 characters or more",
        "Test CPU",
    ],
)  # fmt: skip
def test_the_page_holds(full_report: Path, words: str) -> None:
    text = full_report.read_text(encoding="utf-8").replace("\u00a0", " ")
    assert words in re.sub(r"\s+", " ", re.sub("</?mark>", "", text))


def test_bars_say_what_stands_at_their_ends(full_report: Path) -> None:
    assert "<span>0: base model</span><span>1: real text</span>" in full_report.read_text(encoding="utf-8")
    found = Language(by="reference", reason="the base", excess=Interval(0.25, 0.18, 0.33))
    (gauge,) = LanguageMeasure().gauges(found, Outcome(("worked",)))
    assert gauge.zero == "shuffled words"
    assert (gauge.position.low, gauge.position.high) == pytest.approx((0.67, 0.82))
    part = Style((style_score("ngrams", 0.2, score=around(0.5, 0.05)),))
    assert [each.label for each in StyleMeasure().gauges(part, Outcome(("worked",)))] == [
        "Style, judge ngrams (part of the way)"
    ]


def test_the_word_stands_once_where_a_run_has_one_model(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path, {"alice": evidence_of()})).read_text(encoding="utf-8")
    elements = Elements(page).found
    assert ("h1", {"class": "worked"}) in elements
    assert not [attributes for tag, attributes in elements if "badge" in (attributes.get("class") or "")]


def test_what_is_copied_is_marked_in_samples_and_real_text(full_report: Path) -> None:
    text = full_report.read_text(encoding="utf-8")
    tuned, real = prose(4), prose(90)
    marks = f"{tuned[:4]}<mark>{tuned[4:20]}</mark>{tuned[20:30]}<mark>{tuned[30:41]}</mark>{tuned[41:]}</p>"
    assert marks in text
    assert f"<mark>{real[:9]}</mark>{real[9:]}</p>" in text
    assert f"{prose(0)}</p>" in text, "the base's passages are not looked at"


def test_spans_beyond_a_text_mark_nothing_and_pieces_are_the_text() -> None:
    assert marked_parts("0123456789", [(2, 4), (8, 30), (40, 50)]) == [
        ("01", False), ("23", True), ("4567", False), ("89", True)
    ]  # fmt: skip
    assert marked_parts("", [(0, 3)]) == []
    for spans in ([], [(0, 10)], [(3, 5), (5, 6)]):
        assert "".join(part for part, _ in marked_parts("0123456789", spans)) == "0123456789"


def test_the_page_does_not_tell_the_name_of_the_machine(full_report: Path) -> None:
    assert "private" not in full_report.read_text(encoding="utf-8")


def test_every_step_stands_in_the_page_without_the_script(full_report: Path) -> None:
    steps = [
        values["data-step"]
        for tag, values in Elements(full_report.read_text(encoding="utf-8")).found
        if tag == "details" and "data-step" in values
    ]
    assert steps == [str(step) for step in range(4, 49, 4)] * 2


def test_a_run_without_judges_and_general_text(tmp_path: Path) -> None:
    evidence = evidence_of(style=None, general__rise=None, general__gain_over=None)
    page = write_report(write_run(tmp_path, {"model": evidence}, judged=False)).read_text(encoding="utf-8")
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    curves = {"heldout_bits", "train_loss", "learning_rate", "gradient_norm"}
    assert drawn == curves | {"copying", "movement-blocks", "movement-groups", "scaling"}
    assert 'id="style"' not in page
    assert "Real text, held out" not in page
    assert prose(1) in page
    assert "not measured" in page


def test_a_model_that_writes_nothing_has_a_page_without_copying_and_fluency(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("copying", "fluency"))
    evidence = evidence_of(style=None, general__rise=None, general__gain_over=None, **nothing)
    run = write_run(tmp_path, {"model": evidence}, judged=False)
    (tmp_path / "samples.jsonl").unlink()
    filled = {"prompt": "the [MASK] was lit", "text": "the fog was lit", "truth": "the lamp was lit"}
    run.log("samples.jsonl", {"model": "model", "step": 4, **filled, "masks": 1, "right": 0, "seed": 42})
    page = write_report(run).read_text(encoding="utf-8")
    assert 'id="weights"' in page
    assert 'href="#weights"' in page
    assert 'id="copying"' not in page
    assert "#fluency" not in page
    assert "copied" not in page.partition("What to do next")[0].partition("<main>")[2]
    assert "the [MASK] was lit → </span>the fog was lit (0 of 1 right; it was: the lamp was lit)" in page
    assert "What each model filled in" in page


def test_a_run_that_only_began_has_a_page(tmp_path: Path) -> None:
    page = write_report(empty_run(tmp_path)).read_text(encoding="utf-8")
    assert "No verdict yet" in page
    assert "Nothing was trained or measured" in page


def test_a_run_that_is_still_training_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "evidence.json").unlink()
    (tmp_path / "verdict.json").unlink()
    page = write_report(run).read_text(encoding="utf-8")
    assert "alice: no verdict yet." in page
    assert "beside its base" not in page
    assert "<tbody>\n</tbody>" not in page
    assert prose(4) in page.replace("<mark>", "").replace("</mark>", "")


def test_evidence_of_another_version_is_refused_by_its_number_and_its_writer(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    assert evidence.pop("version") == EVIDENCE_VERSION
    assert evidence.pop("ftkit") == __version__
    run.write_json("evidence.json", evidence)
    with pytest.raises(CheckpointError, match=r"has version 1, written by ftkit 0\.1; this ftkit .* reads version 3"):
        write_report(run)
    run.write_json("evidence.json", {**evidence, "version": 4, "ftkit": "0.9"})
    with pytest.raises(CheckpointError, match=r"has version 4, written by ftkit 0\.9"):
        write_report(run)


def test_without_samples_and_curves_the_evidence_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "samples.jsonl").unlink()
    (tmp_path / "metrics.jsonl").unlink()
    measured = json.loads((tmp_path / "evidence.json").read_text())
    for key in ("gain", "tuned"):
        measured["models"]["alice"]["heldout"][key] = {"value": None, "low": None, "high": None}
    style = measured["models"]["alice"]["measures"]["style"]
    style["judges"][0]["position"] = {"value": None, "low": None, "high": None}
    run.write_json("evidence.json", measured)
    page = write_report(run).read_text(encoding="utf-8")
    assert "after training" in page
    assert write_report(run).read_text(encoding="utf-8") == page
    assert prose(50) in page.replace("<mark>", "").replace("</mark>", "")
    assert "It needs not measured bits" in page
    assert 'id="curves"' in page


def test_a_page_with_many_long_samples_stays_below_five_megabytes(tmp_path: Path) -> None:
    run = empty_run(tmp_path)
    long = f"{prose(1, 100)} 漱石" * 10
    for step in range(200):
        run.log("samples.jsonl", *({"model": name, "step": step, "text": long} for name in "ab" for _ in range(4)))
    page = write_report(run)
    assert page.stat().st_size < 5e6
    steps = [
        values["data-step"] for tag, values in Elements(page.read_text(encoding="utf-8")).found if tag == "details"
    ]
    assert steps[0] == "0"
    assert steps[-1] == "199"
    assert len(steps) > 100


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    run = empty_run(tmp_path)
    other = RunFolder(run.path, run.recipe, run.manifest, is_main=False)
    assert write_report(other) == tmp_path / "report.html"
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "figures").exists()


def test_the_numbers_that_decided_and_the_worth_of_word_order_are_shown(full_report: Path) -> None:
    page = full_report.read_text(encoding="utf-8")
    verdicts = json.loads((full_report.parent / "verdict.json").read_text(encoding="utf-8"))
    for verdict in verdicts.values():
        assert re.search(r'<p class="decided">Decided by [^<]*_gain 0.01', page), verdict["decided_by"]
    assert "79.0\u00a0%" in page
