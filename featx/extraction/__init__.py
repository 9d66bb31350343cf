"""From images to a store: the pipeline, the job, and codes as a scikit-learn transformer."""

from featx.extraction.jobs import (
    Extraction,
    ExtractionJob,
    extract,
    prepare_extraction,
    run_extraction,
)
from featx.extraction.pipeline import (
    CodeBatch,
    Failure,
    auto_batch_size,
    settle_batch_size,
    stream_codes,
)
from featx.extraction.transformer import VGG19Codes

__all__ = [
    "CodeBatch",
    "Extraction",
    "ExtractionJob",
    "Failure",
    "VGG19Codes",
    "auto_batch_size",
    "extract",
    "prepare_extraction",
    "run_extraction",
    "settle_batch_size",
    "stream_codes",
]
