"""Fine-tuning: from images to a tuned network, compared with a linear probe."""

from featx.workflows.finetuning.prepare import FinetuneJob, prepare_finetune
from featx.workflows.finetuning.results import Finetuned, read_finetuned
from featx.workflows.finetuning.run import finetune, run_finetune
from featx.workflows.finetuning.settings import FinetuneProgress, FinetuneSettings

__all__ = [
    "FinetuneJob",
    "FinetuneProgress",
    "FinetuneSettings",
    "Finetuned",
    "finetune",
    "prepare_finetune",
    "read_finetuned",
    "run_finetune",
]
