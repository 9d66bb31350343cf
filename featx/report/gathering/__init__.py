"""Gathering: a model, a sweep or a fine-tuning comes in, the contents of a page go out.

The source is read completely. Codes and images, to which it only refers, may be missing;
then the contents say why, and what to type.
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
