"""Numerical experiments: each answers one question with numbers that anybody can compute again."""

from ftkit.lab.numerics.attention import Attention, measure_attention
from ftkit.lab.numerics.attention_scale import AttentionScale, measure_attention_scale, score_spread
from ftkit.lab.numerics.gelu import Gelu, measure_gelu
from ftkit.lab.numerics.gradient_clipping import GradientClipping, measure_gradient_clipping
from ftkit.lab.numerics.initialisation import POLICIES, Initialisation, initialise, measure_initialisation
from ftkit.lab.numerics.layer_norm import LayerNorm, LayerNormReport, layer_norm, ln_report, measure_layer_norm
from ftkit.lab.numerics.logits import Logits, measure_logits
from ftkit.lab.numerics.loss_shapes import LossShapes, measure_loss_shapes
from ftkit.lab.numerics.norm_drift import Drift, NormDrift, measure_norm_drift, norm_drift
from ftkit.lab.numerics.optimizer_race import OptimizerRace, measure_optimizer_race, race
from ftkit.lab.numerics.outcomes import Line, Outcome, Panel, Table, as_evidence, summary
from ftkit.lab.numerics.schedules import Schedules, measure_schedules
from ftkit.lab.numerics.softmax import Softmax, measure_softmax
from ftkit.lab.numerics.timing import median_seconds, timing_device

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
