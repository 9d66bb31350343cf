"""Fine-tuning, from images to a network and to the sentence that says what to ship."""

from featx.workflows.finetuning.prepare import FinetuneJob, prepare_finetune
from featx.workflows.finetuning.run import Finetuned, Progress, finetune, run_finetune

__all__ = [
    "FinetuneJob",
    "Finetuned",
    "Progress",
    "finetune",
    "prepare_finetune",
    "run_finetune",
]
