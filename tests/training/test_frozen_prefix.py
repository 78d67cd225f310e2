"""What is frozen below all that trains costs no backward pass, by torch's own count of the operations of a step."""

from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from ftkit.config import AdapterSettings
from ftkit.data import TokenStore
from ftkit.models import load_model
from ftkit.training import NEXT_TOKEN, Engine, TokenWindows
from ftkit.tuning import attach_adapter

WIDTH, BLOCKS, ROWS, TOKENS, VOCAB = 64, 4, 2, 32, 257
BLOCK = 2 * ROWS * TOKENS * 12 * WIDTH**2
"""Operations of a block's linear maps in one direction: 4 WIDTH^2 of attention, 8 of the MLP."""
HEAD = 2 * ROWS * TOKENS * VOCAB * WIDTH


def operations(store: TokenStore, **changes: object) -> int:
    """Operations of the second step."""
    values: dict[str, object] = {"window_tokens": TOKENS, "per_device_train_batch_size": ROWS, "save_steps": 0}
    settings = AdapterSettings(model="m", max_steps=2, use_cpu=True, **{"peft": "none", **values, **changes})
    size = f"n_embd={WIDTH},n_layer={BLOCKS},n_head=2,resid_pdrop=0.0,embd_pdrop=0.0,attn_pdrop=0.0"
    model: Any = load_model(f"new:gpt2,{size}", seed=0, vocab_size=VOCAB, max_positions=64)
    if settings.peft != "none":
        model = attach_adapter(model, settings, base="m")
    steps = iter(Engine(model, NEXT_TOKEN, TokenWindows(store, TOKENS, seed=0), settings))
    next(steps)
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return counter.get_total_flops()


def test_a_frozen_prefix_costs_no_backward_pass(store: TokenStore) -> None:
    spared = operations(store) - operations(store, train=["mlp@3"])
    # Both products of three blocks and of the last one's attention, the gradient of the MLP's input, the head's weight.
    assert spared == 2 * 3 * BLOCK + 2 * BLOCK // 3 + BLOCK // 3 + HEAD


@pytest.mark.parametrize(
    "changes", [{"train": ["mlp@3"]}, {"peft": "lora", "lora_target_modules": ["mlp@3"]}], ids=["blocks", "lora"]
)
def test_checkpoints_compute_only_blocks_again_that_train(changes: dict[str, object], store: TokenStore) -> None:
    again = operations(store, activation_checkpointing=True, **changes) - operations(store, **changes)
    assert 0 < again <= 1.2 * BLOCK  # with all blocks computed again and passed through backward it was 6.3
    assert "peft" in changes or again == 2 * BLOCK // 3  # the last product of a block is not needed again
