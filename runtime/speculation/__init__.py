"""The decoding policy: plain code over token ids and scores. It knows no backend, device or thread."""

from saguaro.runtime.speculation.anytime import depths_worth_waiting_for
from saguaro.runtime.speculation.cache import Prepared, SpeculationCache
from saguaro.runtime.speculation.fan_out import geometric_fan_out, uniform_fan_out
from saguaro.runtime.speculation.ngram import NgramIndex
from saguaro.runtime.speculation.outcomes import Choice, Lesson, Ranked, choose_outcomes
from saguaro.runtime.speculation.policy import OutcomePolicy, outcome_policy
from saguaro.runtime.speculation.speed_model import predicted_speedup
from saguaro.runtime.speculation.tree import Outcome, Speculation

__all__ = [
    "Choice",
    "Lesson",
    "NgramIndex",
    "Outcome",
    "OutcomePolicy",
    "Prepared",
    "Ranked",
    "Speculation",
    "SpeculationCache",
    "choose_outcomes",
    "depths_worth_waiting_for",
    "geometric_fan_out",
    "outcome_policy",
    "predicted_speedup",
    "uniform_fan_out",
]
