"""Evidence before adjectives: measurements with a floor, a ceiling and an interval, and the verdict they allow."""

from ftkit.evidence.baselines import feature_baseline, word_baseline
from ftkit.evidence.classification import (
    ClassifierScores,
    classifier_finding,
    paired_difference,
    score_classifier,
)
from ftkit.evidence.copying import CopyIndex, Copying, copying
from ftkit.evidence.fluency import Fluency, fluency
from ftkit.evidence.gathering import check_heldout, gather_evidence
from ftkit.evidence.intervals import Interval, bits_per_byte, bootstrap, gain_in_bits, gain_over, relative_rise
from ftkit.evidence.judges import EncoderJudge, Gate, Judge, JudgeTexts, NgramJudge, gate, mask_names, vocabulary_of
from ftkit.evidence.liking import Liking, LikingLimits, decide_liking, liking, set_shares, target_rate, wilson
from ftkit.evidence.panel import Panel, seat_ngrams, seat_panel
from ftkit.evidence.passages import PassageWriter
from ftkit.evidence.rules import ArmDifference, Course, arm_difference, course_of, rules_finding
from ftkit.evidence.style import StyleScore, score_style
from ftkit.evidence.texts import cut_passages, fit_passage, words_of
from ftkit.evidence.usage import Usage, frequent_tokens, token_shares, token_usage
from ftkit.evidence.verdict import Evidence, Thresholds, Verdict, decide

__all__ = [
    "ArmDifference",
    "ClassifierScores",
    "CopyIndex",
    "Copying",
    "Course",
    "EncoderJudge",
    "Evidence",
    "Fluency",
    "Gate",
    "Interval",
    "Judge",
    "JudgeTexts",
    "Liking",
    "LikingLimits",
    "NgramJudge",
    "Panel",
    "PassageWriter",
    "StyleScore",
    "Thresholds",
    "Usage",
    "Verdict",
    "arm_difference",
    "bits_per_byte",
    "bootstrap",
    "check_heldout",
    "classifier_finding",
    "copying",
    "course_of",
    "cut_passages",
    "decide",
    "decide_liking",
    "feature_baseline",
    "fit_passage",
    "fluency",
    "frequent_tokens",
    "gain_in_bits",
    "gain_over",
    "gate",
    "gather_evidence",
    "liking",
    "mask_names",
    "paired_difference",
    "relative_rise",
    "rules_finding",
    "score_classifier",
    "score_style",
    "seat_ngrams",
    "seat_panel",
    "set_shares",
    "target_rate",
    "token_shares",
    "token_usage",
    "vocabulary_of",
    "wilson",
    "word_baseline",
    "words_of",
]
