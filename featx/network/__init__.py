"""The network: weights by layer name, and the truncated VGG19 that carries them."""

from featx.network.backbone import (
    Backbone,
    VGG19Backbone,
    build_backbone,
    device_name,
    load_backbone,
)
from featx.network.weights import (
    BUNDLED_SHA256,
    WeightsGroup,
    WeightsInventory,
    WeightsSource,
    fetch_imagenet,
    find_weights,
    inspect_weights,
    read_weights,
)

__all__ = [
    "BUNDLED_SHA256",
    "Backbone",
    "VGG19Backbone",
    "WeightsGroup",
    "WeightsInventory",
    "WeightsSource",
    "build_backbone",
    "device_name",
    "fetch_imagenet",
    "find_weights",
    "inspect_weights",
    "load_backbone",
    "read_weights",
]
