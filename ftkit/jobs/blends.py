"""A blend of a base and its tuned model: the gain and the forgetting of each point, and the chosen one as a folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from ftkit.data import fix_special_tokens, tokenizer_fingerprint
from ftkit.display.tables import plain_table
from ftkit.display.wording import interval, percent_interval
from ftkit.errors import ConfigError, ModelError
from ftkit.evidence import check_heldout, gain_in_bits, relative_rise
from ftkit.evidence.interpolation import SCALING, ScaledPoint, scaling_figure
from ftkit.inspection.converted_folder import stored_dtype
from ftkit.jobs.judged_models import ModelSide, load_sides
from ftkit.jobs.verdict_requests import VerdictRequest, VerdictTexts, check_options, read_texts
from ftkit.models import is_adapter, load_model, save_model, task_of
from ftkit.models.meta_models import outline
from ftkit.report.renderer import write_figure
from ftkit.runs.files import write_json
from ftkit.training import HeldOutWindows, held_out_loss
from ftkit.tuning import merge_adapter
from ftkit.tuning.blend import Blend, blends_in_place

__all__ = ["Blended", "blend_models"]

_MOST_ALPHA = 2.0
"""Beyond it, nothing of what was trained is left of a model."""
_ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Blended:
    """What was written, and what was measured."""

    folder: Path
    alpha: float
    kind: str
    """``adapter`` or ``model``."""
    points: tuple[ScaledPoint, ...]
    """Empty where nothing was measured."""
    most_rise: float
    """Rise of the loss on general text that was allowed."""

    def __str__(self) -> str:
        """What ``ftkit blend`` prints."""
        written = f"{self.folder}: the {self.kind} at alpha {self.alpha:g}"
        if len(self.points) > 1:
            written += f", the largest gain with general loss surely at most {self.most_rise:.0%} above the base's"
        rows = [[f"{p.scale:g}", interval(p.gain), percent_interval(p.rise)] for p in self.points]
        heads = ["alpha", "gain, bits per byte", "rise on general text"]
        return "\n".join([*(plain_table(heads, rows) if rows else ()), written])

    def save_figure(self, path: Path) -> None:
        """Draw the curve as SVG and PNG, beside the CSV that it is drawn from.

        Args:
            path: Where, with any of these endings.
        """
        write_figure(path.with_suffix(".csv"), scaling_figure({"blend": self.points}), SCALING)


def blend_models(request: VerdictRequest, out: Path, alphas: Sequence[float]) -> Blended:
    """Measure points between a base and its tuned model, and write one of them.

    Args:
        request: Base, tuned model and options as for a verdict. Without text nothing is measured.
        out: A new folder.
        alphas: 0 is the base, 1 the tuned model. One is written; of several, the one with the largest gain on held-out
            text whose loss on general text is surely within ``forgot_rise`` of the base's.

    Raises:
        ConfigError: Alphas or options that cannot be.
        DataError: Text that cannot be read, or that is too short.
        ModelError: Models that cannot be blended, or no point that is allowed.
    """
    limits, alphas = check_options(request), sorted(set(alphas))
    _check(request, out, alphas)
    texts = read_texts(request) if request.text else None
    code: Any = {"trust_remote_code": request.trust_remote_code, "allow_pickle": request.allow_pickle}
    task = task_of(request.base, request.revision, **code)
    base, tuned, _ = load_sides(request, task)
    if tokenizer_fingerprint(base.tokenizer) != tokenizer_fingerprint(tuned.tokenizer):
        raise ModelError(f"{request.tuned}: its tokenizer gives other ids than that of {request.base}; give its base")
    assert tuned.own is not None
    scaled = base.own is None and blends_in_place(tuned.own)
    plain: Any = merge_adapter(tuned.own) if is_adapter(tuned.own) and not scaled else tuned.own  # type: ignore[arg-type]
    named = outline(request.base if is_adapter(tuned.own) else request.tuned, task=task)
    dtype = torch.float32 if scaled else stored_dtype(plain, named.config.dtype)
    with _loaded(base, request, task, needed=not scaled) as start:
        blend = Blend(start, plain, None if scaled else dtype)
    points = tuple(_measured(request, texts, base, tuned, blend, alphas)) if texts else ()
    alpha = alphas[0] if len(alphas) == 1 else _chosen(points, limits.forgot_rise)
    model: Any = blend.at(alpha)
    save_model(model if scaled else model.to(dtype), tuned.tokenizer, out)
    if scaled:
        _restore_dtypes(Path(request.tuned).expanduser() / _ADAPTER_FILE, out / _ADAPTER_FILE)
    made = {"base": request.base, "tuned": request.tuned, "alpha": alpha, "points": [asdict(point) for point in points]}
    write_json(out / "blend.json", made)
    return Blended(out, alpha, "adapter" if scaled else "model", points, limits.forgot_rise)


def _check(request: VerdictRequest, out: Path, alphas: Sequence[float]) -> None:
    if not alphas or not all(0 <= alpha <= _MOST_ALPHA for alpha in alphas):
        raise ConfigError(f"--alphas: takes numbers from 0 (base) to {_MOST_ALPHA:g}, found {list(alphas)}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ModelError(f"{out} exists and is not an empty folder; name a new one")
    if len(alphas) > 1 and not (request.text and request.general):
        raise ConfigError("one of several --alphas is chosen by --text and --general; give both, or one alpha")
    if request.text and not request.general:
        raise ConfigError("--general: is missing; forgetting is measured on it")


@contextmanager
def _loaded(base: ModelSide, request: VerdictRequest, task: str, needed: bool) -> Iterator[PreTrainedModel | None]:
    """The base as a plain model of its own; ``None`` where an adapter is scaled."""
    if base.own is not None or not needed:
        yield base.own
        return
    yield load_model(
        request.base, task=task, revision=request.revision, trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
    )  # fmt: skip


def _measured(
    request: VerdictRequest, texts: VerdictTexts, base: ModelSide, tuned: ModelSide, blend: Blend,
    alphas: Sequence[float],
) -> Iterator[ScaledPoint]:  # fmt: skip
    """One pass of losses for each point and text, paired with the base's."""
    fix_special_tokens(request.special_tokens, [*texts.train, *texts.heldout], base.tokenizer)
    window = min([request.window_tokens, *(n for n in (base.positions, tuned.positions) if n)])
    stores = [base.tokens(part) for part in (texts.heldout, texts.general)]
    for name, store in zip(("the held-out text", "the general text"), stores, strict=True):
        check_heldout(name, store, window, None)
    rows = [HeldOutWindows(store, window) for store in stores]
    with base.model() as model:
        before = [held_out_loss(model, each, request.eval_windows) for each in rows]
    for alpha in alphas:
        after = [held_out_loss(blend.at(alpha), each, request.eval_windows) for each in rows] if alpha else before
        yield ScaledPoint(alpha, gain_in_bits(before[0], after[0]), relative_rise(before[1], after[1]))


def _chosen(points: Sequence[ScaledPoint], most: float) -> float:
    allowed = [point for point in points if point.scale > 0 and point.gain.low > 0 and point.rise.high <= most]
    if allowed:
        return max(allowed, key=lambda point: point.gain.value).scale
    found = "; ".join(
        f"alpha {point.scale:g}: gain {interval(point.gain)}, rise {percent_interval(point.rise)}" for point in points
    )
    raise ModelError(
        f"no alpha above 0 has a sure gain and a general loss surely at most {most:.0%} above the base's ({found}); "
        "give smaller --alphas, or another --threshold forgot_rise; nothing was written"
    )


def _restore_dtypes(original: Path, written: Path) -> None:
    """Store an adapter's tensors in the types that they had: peft loads half precision as float32."""
    if not original.is_file():
        return
    dtypes = {name: tensor.dtype for name, tensor in load_file(original).items()}
    tensors = load_file(written)
    if any(tensor.dtype != dtypes.get(name, tensor.dtype) for name, tensor in tensors.items()):
        fitted = {name: tensor.to(dtypes.get(name, tensor.dtype)) for name, tensor in tensors.items()}
        save_file(fitted, written, metadata={"format": "pt"})
