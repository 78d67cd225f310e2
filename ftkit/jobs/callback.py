"""A verdict at the end of a training with transformers' Trainer or with a trainer of TRL."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit.errors import ConfigError
from ftkit.jobs.verdicts import Judged, TextSource, verdict
from ftkit.models import is_adapter

__all__ = ["VerdictCallback"]

_logger = logging.getLogger("ftkit.verdict")


class VerdictCallback(TrainerCallback):
    """Keeps the model as it starts, and judges the trained one against it when training ends.

    The base of an adapter is the one that its configuration names. A whole model is saved to a temporary folder at
    the start, in its own dtype. During training the callback computes nothing and draws no random numbers, so the
    losses are the same with and without it.

    Args:
        text: What the model is trained on: a source as ``load_corpus`` takes it, or a list of texts.
        heldout: Text of the same kind that it never saw; ``None`` takes the last tenth of ``text``.
        general: Other real text, for forgetting and for the judges.
        report: Where the report is written; ``None`` writes none.
        base: Folder or Hub id of the base; ``None`` finds it as above.
        **options: Further options of ``ftkit.verdict``.
    """

    def __init__(
        self,
        text: TextSource,
        heldout: TextSource | None = None,
        general: TextSource | None = None,
        report: str | Path | None = None,
        base: str | None = None,
        **options: Any,
    ) -> None:
        self.texts: dict[str, Any] = {"text": text, "heldout": heldout, "general": general}
        self.report, self.base, self.options = report, base, options
        self.result: Judged | None = None
        """The verdict, once training has ended."""
        self._start: str | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Keep the base."""
        if args.deepspeed or args.fsdp:
            raise ConfigError(
                "VerdictCallback: the model is sharded (DeepSpeed or FSDP), and no process holds all of it; save it "
                "and call ftkit.verdict(base, tuned, text) after training"
            )
        if not state.is_world_process_zero or self.base:
            return
        model, tokenizer = given["model"], self._tokenizer(given)
        if is_adapter(model):
            self.base = str(model.active_peft_config.base_model_name_or_path)
            return
        self._start = tempfile.mkdtemp(prefix="ftkit-start-")
        model.save_pretrained(self._start)
        tokenizer.save_pretrained(self._start)
        self.base = self._start

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Judge, print, and add the numbers to the trainer's log."""
        if not state.is_world_process_zero or self.base is None:
            return
        try:
            options = {"tokenizer": self._tokenizer(given)} | self.options
            self.result = verdict(self.base, given["model"], **self.texts, **options)
        finally:
            if self._start:
                shutil.rmtree(self._start, ignore_errors=True)
        heldout = self.result.evidence.heldout
        numbers: dict[str, Any] = {
            "verdict": self.result.verdict.verdict,
            "verdict_heldout_bits_per_byte": heldout.tuned.value,
            "verdict_gain": heldout.gain.value,
            "verdict_gain_low": heldout.gain.low,
            "verdict_gain_high": heldout.gain.high,
        }
        state.log_history.append(numbers | {"step": state.global_step, "epoch": state.epoch})
        self.result.print()
        if self.report:
            _logger.info("report: %s", self.result.save_report(self.report))

    def _tokenizer(self, given: dict[str, Any]) -> Any:
        tokenizer = given.get("processing_class") or self.options.get("tokenizer")
        if tokenizer is None:
            raise ConfigError("VerdictCallback: the trainer has no tokenizer; give processing_class=tokenizer to it")
        return tokenizer
