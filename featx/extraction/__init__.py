"""From images to a store: the pipeline, the job, its price, and codes as a transformer."""

from featx.extraction.batching import BatchSize, settle_batch_size, whole_batches
from featx.extraction.jobs import ExtractionJob, extraction_of, prepare_extraction
from featx.extraction.leases import ask_workers, backbone_here
from featx.extraction.named import RECIPES, NamedRecipe, find_named
from featx.extraction.pace import Shares
from featx.extraction.pipeline import CodeBatch, Failure, stream_codes
from featx.extraction.planning import (
    ExtractionPlan,
    Forecast,
    PeakMemory,
    anonymous_bytes,
    plan,
    plan_extraction,
)
from featx.extraction.running import Extraction, extract, run_extraction, run_extractions
from featx.extraction.transformer import VGG19Codes

__all__ = [
    "RECIPES",
    "BatchSize",
    "CodeBatch",
    "Extraction",
    "ExtractionJob",
    "ExtractionPlan",
    "Failure",
    "Forecast",
    "NamedRecipe",
    "PeakMemory",
    "Shares",
    "VGG19Codes",
    "anonymous_bytes",
    "ask_workers",
    "backbone_here",
    "extract",
    "extraction_of",
    "find_named",
    "plan",
    "plan_extraction",
    "prepare_extraction",
    "run_extraction",
    "run_extractions",
    "settle_batch_size",
    "stream_codes",
    "whole_batches",
]
