"""Softmax, draws, and logits beside log-probabilities."""

import math
from dataclasses import replace

import pytest
import torch

from ftkit.lab.numerics import measure_logits, measure_softmax
from ftkit.lab.numerics.probabilities import Logits, softmax


@pytest.fixture(scope="module")
def found() -> Logits:
    return measure_logits(new_tokens=12, prompts=4)


def test_softmax_is_torchs_where_others_overflow():
    values = torch.tensor([1000.0, 999.0, -1000.0])
    assert torch.allclose(softmax(values, 0.5), (values / 0.5).softmax(-1))
    assert softmax(values, 0).tolist() == [1, 0, 0]


def test_one_two_and_five_become_what_the_formula_says():
    """Lesson 04/06 gives 2.4, 6.4 and 91.2 %; the formula gives 1.7, 4.7 and 93.6 %."""
    found = measure_softmax(temperatures=(1, 1e6))
    exponentials = [math.exp(v) for v in (1, 2, 5)]
    shares = [e / sum(exponentials) for e in exponentials]
    assert found.draws["through softmax"].probabilities == pytest.approx(shares)
    assert [round(100 * share, 1) for share in shares] == [1.7, 4.7, 93.6]
    assert found.draws["as weights"].probabilities == (0.125, 0.25, 0.625)
    assert found.entropies[1e6] == pytest.approx(math.log(3), abs=1e-6)


def test_draws_follow_their_probabilities_and_their_seed():
    one, again, other = (measure_softmax(seed=seed).draws["as weights"] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert one.draws == 10_000
    assert one.errors < 4
    assert sum(one.frequencies) == pytest.approx(1)


def test_eight_softmaxes_of_twenty_values_end_at_a_twentieth():
    found = measure_softmax()
    assert len(found.repeated) == 8
    assert found.repeated[-1] == pytest.approx((0.05, 0.05), abs=1e-6)
    assert found.agrees


def test_planted_frequencies_are_told_and_do_not_agree():
    found = measure_softmax()
    planted = replace(found.draws["as weights"], frequencies=(0.2, 0.2, 0.6))
    other = replace(found, draws={"as weights": planted})
    assert "20.0/20.0/60.0 % drawn for 12.5/25.0/62.5 %" in other.finding()
    assert not other.agrees


def test_a_row_of_log_probabilities_is_its_logits_less_one_number(found):
    for logits, log_p in found.rows:
        offset = float(torch.tensor(logits).double().logsumexp(0))
        assert [z - offset for z in logits] == pytest.approx(log_p, abs=1e-4)
    assert found.wrong_loss == pytest.approx(found.losses[0] - found.offset, abs=0.5)


def test_temperature_is_not_lost_and_only_the_penalty_sees_the_sign(found):
    assert found.agrees
    assert max(found.by_temperature.values()) < 1e-6
    assert {rule for rule, share in found.same.items() if share < 1} == {"penalty 1.3"}
    planted = replace(found, same={**found.same, "T = 2": 0.5})
    assert "T = 2 (50% alike)" in planted.finding()
    assert not planted.agrees
