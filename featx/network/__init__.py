"""The network: weights of VGG19, and VGG19 up to the layers that codes are taken from."""

from featx.network.backbone import Backbone, VGG19Backbone, activation_bytes, load_backbone
from featx.network.devices import Device, PossibleMemoryError, check_device, find_device
from featx.network.weights.sources import WeightsSource, find_weights, read_weights

__all__ = [
    "Backbone",
    "Device",
    "PossibleMemoryError",
    "VGG19Backbone",
    "WeightsSource",
    "activation_bytes",
    "check_device",
    "find_device",
    "find_weights",
    "load_backbone",
    "read_weights",
]
