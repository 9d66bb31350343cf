"""Gathering: a bundle, a sweep or a fine-tuning in, the contents of a page out.

What the source holds is read; what it only refers to, codes and pictures, is looked
for where it lay, and what is no longer there is missing in words.
"""

from featx.report.gathering.heat_maps import HeatMapJob, prepare_heat_maps, run_heat_maps
from featx.report.gathering.sources import Source, find_source, gather

__all__ = [
    "HeatMapJob",
    "Source",
    "find_source",
    "gather",
    "prepare_heat_maps",
    "run_heat_maps",
]
