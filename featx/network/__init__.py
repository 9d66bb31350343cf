"""The network: weights of VGG19, and VGG19 up to the layers that codes are taken from."""

from featx.network.backbone import (
    Backbone,
    VGG19Backbone,
    activation_bytes,
    build_backbone,
    joint_name,
    joint_recipe,
    load_activations,
    load_backbone,
    load_joint_backbone,
)
from featx.network.compiling import arithmetic
from featx.network.devices import (
    Device,
    check_device,
    count_gpus,
    find_device,
    find_devices,
    memory_errors,
)
from featx.network.weights import (
    BUNDLED_SHA256,
    WeightsGroup,
    WeightsInventory,
    WeightsSource,
    cached_imagenet,
    fetch_imagenet,
    find_weights,
    inspect_weights,
    read_weights,
)

__all__ = [
    "BUNDLED_SHA256",
    "Backbone",
    "Device",
    "VGG19Backbone",
    "WeightsGroup",
    "WeightsInventory",
    "WeightsSource",
    "activation_bytes",
    "arithmetic",
    "build_backbone",
    "cached_imagenet",
    "check_device",
    "count_gpus",
    "fetch_imagenet",
    "find_device",
    "find_devices",
    "find_weights",
    "inspect_weights",
    "joint_name",
    "joint_recipe",
    "load_activations",
    "load_backbone",
    "load_joint_backbone",
    "memory_errors",
    "read_weights",
]
