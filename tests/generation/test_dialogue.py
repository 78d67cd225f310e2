"""Two models on one text: the context is shared as text, cut to what fits, and its entropy is the closed formula."""

import pytest
import torch

from ftkit.data import load_tokenizer
from ftkit.errors import ModelError
from ftkit.generation import PRESETS, Conversation, Speaker, converse
from ftkit.models import load_model

WORDS = "the keeper lit the lamp and the lamp kept the ships from the rocks all night long "
SMALL = "n_layer=1,n_embd=16,n_head=2"


def speaker(name: str, size: int, positions: int = 64, seed: int = 0) -> Speaker:
    tokenizer = load_tokenizer(f"train:{size}", texts=[WORDS * 20])
    model = load_model(f"new:gpt2,{SMALL}", seed=seed, vocab_size=len(tokenizer), max_positions=positions)
    return Speaker(name, model, tokenizer)


@pytest.fixture(scope="module")
def pair() -> tuple[Speaker, Speaker]:
    """Two models with other tokenizers and other weights."""
    return speaker("a", 260), speaker("b", 300, seed=1)


def test_speakers_take_turns_and_read_all_that_was_said_before(pair):
    turns = list(converse(pair, "the keeper", 2, new_tokens=5, seed=3))
    assert [turn.speaker for turn in turns] == ["a", "b", "a", "b"]
    said = "the keeper"
    for turn, who in zip(turns, [*pair, *pair], strict=True):
        assert turn.context_tokens == len(who.tokenizer(said)["input_ids"])
        assert (turn.tokens, turn.left_out) == (5, 0)
        said += turn.text


def test_the_same_seed_gives_the_same_talk_and_another_seed_another(pair):
    first, again, other = (list(converse(pair, "the", 2, new_tokens=8, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert [turn.text for turn in first] != [turn.text for turn in other]


def test_a_long_context_is_cut_from_the_left_and_the_turn_says_so(pair):
    _, b = pair
    ids = b.tokenizer(WORDS * 10)["input_ids"]
    turn = Conversation(WORDS * 10, new_tokens=10).reply(b)
    assert turn.context_tokens == 64 - 10
    assert turn.left_out == len(ids) - 54


def test_a_turn_that_does_not_fit_is_refused_with_the_longest_that_does(pair):
    with pytest.raises(ModelError, match="new_tokens to 63 or less"):
        Conversation("the", new_tokens=64).reply(pair[0])
    assert Conversation("the", new_tokens=63).reply(pair[0]).tokens == 63


def test_entropy_is_that_of_the_models_own_distribution(pair):
    a, _ = pair
    talk = Conversation("the keeper", new_tokens=1, sampling=PRESETS["greedy"])
    turn = talk.reply(a)
    ids = torch.tensor([a.tokenizer("the keeper")["input_ids"]])
    logits = a.model.eval()(input_ids=ids).logits[0, -1]
    theirs = torch.distributions.Categorical(logits=logits).entropy().item() / torch.log(torch.tensor(2.0)).item()
    assert turn.entropy == pytest.approx(theirs, rel=1e-4)


def test_a_person_speaks_on_a_line_of_their_own(pair):
    talk = Conversation("", new_tokens=4)
    talk.say("you", "Who is there?")
    turn = talk.reply(pair[0])
    assert talk.text == "\nWho is there?\n".lstrip("\n") + turn.text
    assert talk.turns[0].entropy is None
