"""Scores that were kept as plain values, as scores again."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from featx.metrics.evaluation import ClassScore, Confusion, Evaluation, ReliabilityBin
from featx.metrics.intervals import Score
from featx.report.contents import Missing

__all__ = ["evaluation_of"]


def evaluation_of(facts: Mapping[str, Any]) -> Evaluation | Missing:
    """Return an evaluation of what its `to_dict` gave."""
    if "reliability" not in facts:
        return Missing(
            "An earlier featx made this, which kept less of the score. Fit again for the whole "
            "page: featx fit CODES --overwrite"
        )
    values: dict[str, Any] = {
        field.name: facts[field.name] for field in dataclasses.fields(Evaluation)
    }
    for name, value in values.items():
        if isinstance(value, dict):
            values[name] = Score(**value)
    kinds = {"reliability": ReliabilityBin, "per_class": ClassScore, "confusions": Confusion}
    for name, kind in kinds.items():
        values[name] = tuple(kind(**each) for each in facts[name])
    values["labels"] = tuple(facts["labels"])
    values["confusion"] = tuple(tuple(row) for row in facts["confusion"])
    return Evaluation(**values)
