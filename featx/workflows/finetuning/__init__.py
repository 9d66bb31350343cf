"""Fine-tuning, from images to a network and to the sentence that says what to ship."""

from featx.workflows.finetuning.preparing import FinetuneJob, prepare_finetune
from featx.workflows.finetuning.running import Finetuned, Progress, finetune, run_finetune

__all__ = [
    "FinetuneJob",
    "Finetuned",
    "Progress",
    "finetune",
    "prepare_finetune",
    "run_finetune",
]
