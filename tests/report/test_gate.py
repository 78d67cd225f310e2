"""Verdicts as a gate: words that must come, words that must not, and JUnit XML."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_runs import evidence_of

from ftkit.errors import ConfigError, GateError
from ftkit.evidence import Verdict
from ftkit.jobs.verdicts import Judged
from ftkit.report.gate import Gate

UNSURE = Verdict("unsure", ["forgot"], ["gain 0.2", "loss on general text rose"], decided_by=["general_rise.low 0.1"])
WORKED = Verdict("worked", [], ["gain 0.3"])


@pytest.mark.parametrize(
    ("require", "fail_on", "verdict", "holds"),
    [
        ("worked", None, WORKED, True),
        ("worked", None, UNSURE, False),
        ("worked,unsure", None, UNSURE, True),
        (None, "broken,copied", UNSURE, True),
        (None, "broken, forgot", UNSURE, False),
        ("unsure", "forgot", UNSURE, False),
        (None, "broken", Verdict("copied", ["broken"]), False),
        (None, "unsure", UNSURE, False),
        (None, None, UNSURE, True),
    ],
)
def test_words_that_must_come_and_words_that_must_not(require, fail_on, verdict, holds, tmp_path):
    assert Judged(verdict, evidence_of(), {}, [], tmp_path).holds(require, fail_on) is holds


def test_the_error_names_what_was_asked_and_what_came_of_each_model():
    gate = Gate.of("worked", "broken,forgot")
    gate.check({"good": WORKED.as_dict()})
    with pytest.raises(GateError) as caught:
        gate.check({"good": WORKED.as_dict(), "a": UNSURE.as_dict(), "b": Verdict("nothing").as_dict()})
    first, second = str(caught.value).split("; ")
    assert first == "a: asked --require worked --fail-on forgot, found unsure (also: forgot)"
    assert second == "b: asked --require worked, found nothing"
    assert caught.value.exit_code == 8


@pytest.mark.parametrize(
    ("require", "fail_on", "said"),
    [
        ("wroked", None, "--require: no verdict has the word 'wroked'; did you mean 'worked'?"),
        ("forgot", None, "--require: no verdict has the word 'forgot'"),  # it stands beside a main word only
        (None, "broken,forget", "--fail-on: no verdict has the word 'forget'; did you mean 'forgot'?"),
        (None, "", "--fail-on: no verdict has the word ''; there is: broken"),
        ("worked,", None, "--require: no verdict has the word ''"),
    ],
)
def test_a_word_that_no_verdict_has_is_refused(require, fail_on, said):
    with pytest.raises(ConfigError) as caught:
        Gate.of(require, fail_on)
    assert str(caught.value).startswith(said)


def test_junit_has_a_case_for_each_model_and_condition_and_the_reasons_of_a_failure(tmp_path: Path):
    strange = Verdict("broken", [], ["it writes <b> & \x00\x1b[1m\ud800 \ufffe\N{SMILE}", "line\ntwo"])
    verdicts = {"runs/a & <b>\x07": strange.as_dict(), "good": WORKED.as_dict()}
    file = tmp_path / "new" / "verdict.xml"
    Gate.of("worked", "broken,copied").write_junit(file, verdicts)
    root = ElementTree.fromstring(file.read_bytes())
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuites", "testsuite", "6", "2")
    cases = {(case.get("classname"), case.get("name")): case.find("failure") for case in suite}
    assert [key for key, failure in cases.items() if failure is not None] == [
        ("runs/a & <b>", "--require worked"), ("runs/a & <b>", "--fail-on broken"),
    ]  # fmt: skip
    failure = cases["runs/a & <b>", "--fail-on broken"]
    assert failure.get("message") == "found broken"
    assert failure.text == "BROKEN\n  - it writes <b> & [1m \N{SMILE}\n  - line\ntwo"
