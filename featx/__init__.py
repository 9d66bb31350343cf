"""featx: CNN codes from any layer of VGG19, and classifiers you can trust on them.

The public names are here; each is imported when it is first asked for, so that
``import featx`` is quick and TensorFlow is loaded only by what needs it.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featx.extraction import PRESETS, Extraction, ExtractionPlan, VGG19Codes, extract, plan
    from featx.fitting import Fit, Model, fit, load_model
    from featx.recipe import Recipe
    from featx.report import (
        plot_confusion,
        plot_heatmap,
        plot_layers,
        plot_learning_curve,
        plot_map,
        plot_reliability,
        plot_training,
        write_report,
    )
    from featx.store import Store, export, open_store, read_arrays, read_frame
    from featx.workflows import (
        Explanation,
        Finetuned,
        Sweep,
        evaluate,
        explain,
        finetune,
        predict,
        sweep,
    )

__version__ = version("featx")

__all__ = [
    "PRESETS",
    "Explanation",
    "Extraction",
    "ExtractionPlan",
    "Finetuned",
    "Fit",
    "Model",
    "Recipe",
    "Store",
    "Sweep",
    "VGG19Codes",
    "errors",
    "evaluate",
    "explain",
    "export",
    "extract",
    "finetune",
    "fit",
    "load_model",
    "open_store",
    "plan",
    "plot_confusion",
    "plot_heatmap",
    "plot_layers",
    "plot_learning_curve",
    "plot_map",
    "plot_reliability",
    "plot_training",
    "predict",
    "read_arrays",
    "read_frame",
    "sweep",
    "write_report",
]

_ROOMS = {
    "Model": "fitting",
    "Explanation": "workflows",
    "Extraction": "extraction",
    "ExtractionPlan": "extraction",
    "Finetuned": "workflows",
    "Fit": "fitting",
    "PRESETS": "extraction",
    "Recipe": "recipe",
    "Store": "store",
    "Sweep": "workflows",
    "VGG19Codes": "extraction",
    "evaluate": "workflows",
    "explain": "workflows",
    "export": "store",
    "extract": "extraction",
    "finetune": "workflows",
    "fit": "fitting",
    "load_model": "fitting",
    "open_store": "store",
    "plan": "extraction",
    "plot_confusion": "report",
    "plot_heatmap": "report",
    "plot_layers": "report",
    "plot_learning_curve": "report",
    "plot_map": "report",
    "plot_reliability": "report",
    "plot_training": "report",
    "predict": "workflows",
    "read_arrays": "store",
    "read_frame": "store",
    "sweep": "workflows",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("featx.errors")
    if name not in _ROOMS:
        message = f"module 'featx' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"featx.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
