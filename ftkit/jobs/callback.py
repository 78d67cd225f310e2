"""A verdict at the end of a training with transformers' Trainer or with a trainer of TRL."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ftkit.errors import ConfigError
from ftkit.evidence import ClassifierScores, Evidence, Interval
from ftkit.jobs.verdicts import Judged, TemporaryFolder, TextSource, check_inputs, verdict
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
        examples: Instead of ``text``, prompts with completions: a source as ``load_examples`` takes it, or rows.
        heldout: Text of the same kind that it never saw; ``None`` takes the last tenth of ``text``.
        general: Other real text, for forgetting and for the judges.
        report: Where the report is written; ``None`` writes none.
        base: Folder or Hub id of the base; ``None`` finds it as above.
        **options: Further options of ``ftkit.verdict``; of a classifier ``labelled`` and ``labelled_test``.
    """

    def __init__(
        self,
        text: TextSource | None = None,
        heldout: TextSource | None = None,
        general: TextSource | None = None,
        report: str | Path | None = None,
        base: str | None = None,
        examples: str | Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        self.texts: dict[str, Any] = {"text": text, "examples": examples, "heldout": heldout, "general": general}
        self.report, self.base, self.options = report, base, options
        self.result: Judged | None = None
        """The verdict, once training has ended."""
        self._base: str | None = None
        self._start: TemporaryFolder | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Check all inputs, and keep the base."""
        if args.deepspeed or args.fsdp:
            raise ConfigError(
                "VerdictCallback: the model is sharded (DeepSpeed or FSDP), and no process holds all of it; save it "
                "and call ftkit.verdict(base, tuned, text) after training"
            )
        if not state.is_world_process_zero:
            return
        model, tokenizer = given["model"], self._tokenizer(given)
        check_inputs(**self.texts, **{name: value for name, value in self.options.items() if name != "tokenizer"})
        if self.base is not None:
            self._base = self.base
        elif is_adapter(model):
            self._base = self._named_base(model)
        elif state.global_step:
            raise ConfigError(
                f"VerdictCallback: training continues at step {state.global_step}, so the model is no longer the base; "
                "give base=FOLDER_OR_HUB_ID"
            )
        else:
            self._start = TemporaryFolder("ftkit-start-")
            model.save_pretrained(self._start.path)
            tokenizer.save_pretrained(self._start.path)
            self._base = str(self._start.path)

    def _named_base(self, model: Any) -> str:
        """The base that an adapter's configuration names, and its revision."""
        config = model.active_peft_config
        if not config.base_model_name_or_path:
            raise ConfigError("VerdictCallback: the adapter names no base; give base=FOLDER_OR_HUB_ID")
        if config.revision:
            self.options.setdefault("revision", config.revision)
        return str(config.base_model_name_or_path)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Judge, print, and add the numbers to the trainer's log."""
        if not state.is_world_process_zero or self._base is None:
            return
        options = {"tokenizer": self._tokenizer(given)} | self.options
        try:
            self.result = verdict(self._base, given["model"], **self.texts, **options)
        finally:
            self._base = self._start = None
        numbers: dict[str, Any] = {"verdict": self.result.verdict.verdict, **_numbers(self.result.evidence)}
        state.log_history.append(numbers | {"step": state.global_step, "epoch": state.epoch})
        self.result.print()
        if self.report:
            _logger.info("report: %s", self.result.save_report(self.report))

    def _tokenizer(self, given: dict[str, Any]) -> Any:
        tokenizer = given.get("processing_class") or self.options.get("tokenizer")
        if tokenizer is None:
            raise ConfigError("VerdictCallback: the trainer has no tokenizer; give processing_class=tokenizer to it")
        return tokenizer


def _numbers(evidence: Evidence | ClassifierScores) -> dict[str, float]:
    """What the trainer's log gets beside the word."""
    if isinstance(evidence, ClassifierScores):
        shown = {"accuracy": evidence.accuracy, "macro_f1": evidence.macro_f1}
        return {f"verdict_{name}{end}": value for name, measured in shown.items() for end, value in _ends(measured)}
    gain = {f"verdict_gain{end}": value for end, value in _ends(evidence.heldout.gain)}
    return {"verdict_heldout_bits_per_byte": evidence.heldout.tuned.value, **gain}


def _ends(measured: Interval) -> tuple[tuple[str, float], ...]:
    return ("", measured.value), ("_low", measured.low), ("_high", measured.high)
