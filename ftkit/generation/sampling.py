"""How the next token is drawn, and presets with names.

The repetition penalty is transformers' rule (Keskar et al. 2019, https://arxiv.org/abs/1909.05858): the logit of a
token seen before is divided by the penalty where positive and multiplied where negative, once, however often it came.
"""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PRESETS", "Sampling"]


@dataclass(frozen=True)
class Sampling:
    """Settings of the draw."""

    do_sample: bool = True
    """Draw at random; otherwise always the most likely token."""
    temperature: float = 1.0
    """Logits are divided by it: below 1 sharper, above 1 flatter."""
    top_k: int = 0
    """Only the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Only the most likely tokens that together have this probability; 1 keeps all."""
    repetition_penalty: float = 1.0
    """1 leaves repeated tokens alone."""
    banned_ids: tuple[int, ...] = ()
    """Tokens that are never emitted."""
    allow_stop: bool = False
    """Whether the end-of-text token may end a passage early; otherwise every passage has its full length."""

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them, to stand beside every sample."""
        return {**asdict(self), "banned_ids": list(self.banned_ids)}


PRESETS: dict[str, Sampling] = {
    "plain": Sampling(),
    "greedy": Sampling(do_sample=False),
    "focused": Sampling(temperature=0.7, top_p=0.9),
    "creative": Sampling(temperature=1.1, top_p=0.95),
    "top50": Sampling(top_k=50, top_p=0.95),
    "judged": Sampling(repetition_penalty=1.3),
}
"""``plain`` is the model's own distribution, the fairest sample of what it learned; ``judged`` is the course's setting
for judged passages; ``top50`` is that of lesson 07/04; the others are common in use."""
