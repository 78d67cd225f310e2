"""Evidence before adjectives: measurements with a floor, a ceiling and an interval, and the verdict they allow."""

from typing import TYPE_CHECKING

from ftkit.lazy import load_names_lazily

if TYPE_CHECKING:
    from ftkit.evidence.answers import (
        AnswerWriter,
        ComparedAnswers,
        ComparedExamples,
        answer_looks,
        compare_examples,
    )
    from ftkit.evidence.baselines import feature_baseline, word_baseline
    from ftkit.evidence.classification import (
        ClassifierScores,
        classifier_finding,
        paired_difference,
        score_classifier,
    )
    from ftkit.evidence.classifier_verdict import ClassifierCase, decide_classifier
    from ftkit.evidence.code import CodeChange, CodeScores, code_change, code_validity
    from ftkit.evidence.code_samples import (
        CodeStart,
        CodeWriter,
        check_code_places,
        code_by_length,
        code_starts,
        fit_code,
        longest_code_sample,
    )
    from ftkit.evidence.comparison import ComparedPassages, ComparedTexts, Comparison, check_heldout, measure_at
    from ftkit.evidence.copying import CopiedNgrams, CopyIndex, Copying, copying, known_share
    from ftkit.evidence.corrupted import character_chain, with_corrupted
    from ftkit.evidence.courses import LogTimeFit, fit_log_time, judging_times, style_courses
    from ftkit.evidence.cross_comparison import cross_comparison
    from ftkit.evidence.discriminator import Discriminator, auc_interval, discriminate
    from ftkit.evidence.distances import EnergyDistances
    from ftkit.evidence.document import Evidence, HeldOut, evidence_schema, parse_evidence, summary_rows
    from ftkit.evidence.fluency import Damage, Fluency, fluency, language_damage, out_of_range
    from ftkit.evidence.forgetting import (
        SCALES,
        divergence_from_base,
        scaled_models,
        scaling_curve,
    )
    from ftkit.evidence.gates import Gate, gate, mask_names
    from ftkit.evidence.interpolation import ScaledPoint
    from ftkit.evidence.intervals import (
        Interval,
        bits_per_byte,
        bootstrap,
        change_of_share,
        exact_share,
        gain_in_bits,
        gain_over,
        relative_rise,
        wilson,
    )
    from ftkit.evidence.judges import MIN_PASSAGES, BuiltJudge, Judge, JudgeRequest, JudgeTexts, vocabulary_of
    from ftkit.evidence.judges.encoder import EncoderJudge
    from ftkit.evidence.judges.ngrams import NgramJudge
    from ftkit.evidence.language import Reference
    from ftkit.evidence.looks import LOOKS, gather_evidence, looks_up_to
    from ftkit.evidence.measure import Case, Finding, Measure, OpenRule, Outcome, Remark, Support
    from ftkit.evidence.measures import all_measures
    from ftkit.evidence.named_metrics import NamedMetric, load_metrics
    from ftkit.evidence.order import WordOrder, shuffle_words, word_order
    from ftkit.evidence.panel import Panel, build_judges
    from ftkit.evidence.passages import (
        PassageWriter,
        Store,
        Written,
        as_evidence,
        keep_blocks,
        longest_passage,
        prompt_room,
    )
    from ftkit.evidence.predictive import Predictive, WindowLosses, predictive_comparison, window_losses
    from ftkit.evidence.style import JudgeView, StyleDistances, StyleScore, score_style
    from ftkit.evidence.style_vectors import StyleVectors, fit_vectors
    from ftkit.evidence.texts import cut_passages, fit_passage, spread_evenly, word_spans, words_of
    from ftkit.evidence.thresholds import Thresholds, threshold_meanings
    from ftkit.evidence.usage import (
        Usage,
        UsageMatrix,
        distinctive_tokens,
        frequent_tokens,
        token_shares,
        token_usage,
        usage_matrix,
    )
    from ftkit.evidence.verdict import Verdict, decide

__all__ = [
    "LOOKS",
    "MIN_PASSAGES",
    "SCALES",
    "AnswerWriter",
    "BuiltJudge",
    "Case",
    "ClassifierCase",
    "ClassifierScores",
    "CodeChange",
    "CodeScores",
    "CodeStart",
    "CodeWriter",
    "ComparedAnswers",
    "ComparedExamples",
    "ComparedPassages",
    "ComparedTexts",
    "Comparison",
    "CopiedNgrams",
    "CopyIndex",
    "Copying",
    "Damage",
    "Discriminator",
    "EncoderJudge",
    "EnergyDistances",
    "Evidence",
    "Finding",
    "Fluency",
    "Gate",
    "HeldOut",
    "Interval",
    "Judge",
    "JudgeRequest",
    "JudgeTexts",
    "JudgeView",
    "LogTimeFit",
    "Measure",
    "NamedMetric",
    "NgramJudge",
    "OpenRule",
    "Outcome",
    "Panel",
    "PassageWriter",
    "Predictive",
    "Reference",
    "Remark",
    "ScaledPoint",
    "Store",
    "StyleDistances",
    "StyleScore",
    "StyleVectors",
    "Support",
    "Thresholds",
    "Usage",
    "UsageMatrix",
    "Verdict",
    "WindowLosses",
    "WordOrder",
    "Written",
    "all_measures",
    "answer_looks",
    "as_evidence",
    "auc_interval",
    "bits_per_byte",
    "bootstrap",
    "build_judges",
    "change_of_share",
    "character_chain",
    "check_code_places",
    "check_heldout",
    "classifier_finding",
    "code_by_length",
    "code_change",
    "code_starts",
    "code_validity",
    "compare_examples",
    "copying",
    "cross_comparison",
    "cut_passages",
    "decide",
    "decide_classifier",
    "discriminate",
    "distinctive_tokens",
    "divergence_from_base",
    "evidence_schema",
    "exact_share",
    "feature_baseline",
    "fit_code",
    "fit_log_time",
    "fit_passage",
    "fit_vectors",
    "fluency",
    "frequent_tokens",
    "gain_in_bits",
    "gain_over",
    "gate",
    "gather_evidence",
    "judging_times",
    "keep_blocks",
    "known_share",
    "language_damage",
    "load_metrics",
    "longest_code_sample",
    "longest_passage",
    "looks_up_to",
    "mask_names",
    "measure_at",
    "out_of_range",
    "paired_difference",
    "parse_evidence",
    "predictive_comparison",
    "prompt_room",
    "relative_rise",
    "scaled_models",
    "scaling_curve",
    "score_classifier",
    "score_style",
    "shuffle_words",
    "spread_evenly",
    "style_courses",
    "summary_rows",
    "threshold_meanings",
    "token_shares",
    "token_usage",
    "usage_matrix",
    "vocabulary_of",
    "wilson",
    "window_losses",
    "with_corrupted",
    "word_baseline",
    "word_order",
    "word_spans",
    "words_of",
]

load_names_lazily(__name__)
