"""Extraction of codes: the pipeline, jobs, plans, presets and a scikit-learn transformer."""

from featx.extraction.checking import ResumeForecast, StoreCheck, check_store
from featx.extraction.plan import ExtractionPlan, plan, plan_extraction
from featx.extraction.prepare import ExtractionJob, extraction_of, prepare_extraction
from featx.extraction.presets import PRESETS, Preset
from featx.extraction.run import Extraction, extract, run_extraction, run_extractions

__all__ = [
    "PRESETS",
    "Extraction",
    "ExtractionJob",
    "ExtractionPlan",
    "Preset",
    "ResumeForecast",
    "StoreCheck",
    "check_store",
    "extract",
    "extraction_of",
    "plan",
    "plan_extraction",
    "prepare_extraction",
    "run_extraction",
    "run_extractions",
]
