"""Extraction of codes: the pipeline, jobs, plans, presets and a scikit-learn transformer."""

from featx.extraction.batching import settle_batch_size, whole_batches
from featx.extraction.executors import cached_backbone, describe_workers
from featx.extraction.pipeline import CodeBatch, Failure, stream_codes
from featx.extraction.plan import (
    ExtractionPlan,
    Forecast,
    PeakMemory,
    anonymous_bytes,
    plan,
    plan_extraction,
)
from featx.extraction.prepare import ExtractionJob, extraction_of, prepare_extraction
from featx.extraction.presets import PRESETS, Preset, find_preset
from featx.extraction.run import Extraction, extract, run_extraction, run_extractions
from featx.extraction.settings import BatchSize, ExtractionSettings
from featx.extraction.timings import Timings
from featx.extraction.transformer import VGG19Codes

__all__ = [
    "PRESETS",
    "BatchSize",
    "CodeBatch",
    "Extraction",
    "ExtractionJob",
    "ExtractionPlan",
    "ExtractionSettings",
    "Failure",
    "Forecast",
    "PeakMemory",
    "Preset",
    "Timings",
    "VGG19Codes",
    "anonymous_bytes",
    "cached_backbone",
    "describe_workers",
    "extract",
    "extraction_of",
    "find_preset",
    "plan",
    "plan_extraction",
    "prepare_extraction",
    "run_extraction",
    "run_extractions",
    "settle_batch_size",
    "stream_codes",
    "whole_batches",
]
