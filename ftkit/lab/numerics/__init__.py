"""Numerical experiments: each answers one question with numbers that anybody can compute again."""

from ftkit.lab.numerics.attention import (
    Attention,
    AttentionScale,
    measure_attention,
    measure_attention_scale,
    score_spread,
)
from ftkit.lab.numerics.gelu import Gelu, measure_gelu
from ftkit.lab.numerics.initialisation import POLICIES, Initialisation, initialise, measure_initialisation
from ftkit.lab.numerics.norms import (
    Drift,
    LayerNorm,
    LayerNormReport,
    NormDrift,
    layer_norm,
    ln_report,
    measure_layer_norm,
    measure_norm_drift,
    norm_drift,
)
from ftkit.lab.numerics.outcomes import Line, Outcome, Panel, Table, as_evidence, median_seconds, summary, timing_device
from ftkit.lab.numerics.probabilities import Logits, Softmax, measure_logits, measure_softmax
from ftkit.lab.numerics.toy_training import (
    GradientClipping,
    LossShapes,
    OptimizerRace,
    Schedules,
    measure_gradient_clipping,
    measure_loss_shapes,
    measure_optimizer_race,
    measure_schedules,
    race,
)

__all__ = [
    "POLICIES",
    "Attention",
    "AttentionScale",
    "Drift",
    "Gelu",
    "GradientClipping",
    "Initialisation",
    "LayerNorm",
    "LayerNormReport",
    "Line",
    "Logits",
    "LossShapes",
    "NormDrift",
    "OptimizerRace",
    "Outcome",
    "Panel",
    "Schedules",
    "Softmax",
    "Table",
    "as_evidence",
    "initialise",
    "layer_norm",
    "ln_report",
    "measure_attention",
    "measure_attention_scale",
    "measure_gelu",
    "measure_gradient_clipping",
    "measure_initialisation",
    "measure_layer_norm",
    "measure_logits",
    "measure_loss_shapes",
    "measure_norm_drift",
    "measure_optimizer_race",
    "measure_schedules",
    "measure_softmax",
    "median_seconds",
    "norm_drift",
    "race",
    "score_spread",
    "summary",
    "timing_device",
]
