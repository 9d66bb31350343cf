"""The error tree: everything featx raises on purpose.

Nothing comes in; the names go out to every room. A message answers three
questions: what happened (with what was received), what was expected, what to
type next. The command line prints the message alone and exits with 1.

* FeatxError
    * OptionError           a setting that cannot be (also a ValueError)
        * UnknownLayerError a layer VGG19 does not have
    * OutputError           a result that cannot be written
        * ExistsError       the output is already there
        * BusyError         another run is writing it
    * ImagesError           no usable list of images
    * ImageError            one image that cannot be read
    * WeightsError          a weights file that is missing, damaged or does not fit
    * StoreError            a store that cannot be read or written
        * RecipeMismatchError  codes made by another recipe
        * CodeRangeError       a code that the store's numbers cannot hold
    * FitError              labels or codes that no classifier can be fitted on
    * ModelError           a saved classifier that cannot be read
    * ClusterError          a cluster that is lost, or a task that failed on it
"""

__all__ = [
    "BusyError",
    "ClusterError",
    "CodeRangeError",
    "ExistsError",
    "FeatxError",
    "FitError",
    "ImageError",
    "ImagesError",
    "ModelError",
    "OptionError",
    "OutputError",
    "RecipeMismatchError",
    "StoreError",
    "UnknownLayerError",
    "WeightsError",
]


class FeatxError(Exception):
    """Base of all errors that featx raises on purpose."""


class OptionError(FeatxError, ValueError):
    """A setting has a value that it cannot have."""


class UnknownLayerError(OptionError):
    """VGG19 has no layer of that name."""


class OutputError(FeatxError):
    """A result cannot be written."""


class ExistsError(OutputError):
    """The output exists, and nothing said that it may be replaced."""


class BusyError(OutputError):
    """Another run is writing the output."""


class ImagesError(FeatxError):
    """No usable list of images: a missing folder, a manifest without paths."""


class ImageError(FeatxError):
    """One image cannot be read; the message is the reason.

    Parameters
    ----------
    reason : str
        The reason in a few words, without the path.
    sha256 : str or None, default=None
        Digest of the file's bytes, if they could be read.
    """

    def __init__(self, reason: str, sha256: str | None = None) -> None:
        super().__init__(reason)
        self.sha256 = sha256


class WeightsError(FeatxError):
    """A weights file is missing, damaged, or does not fit VGG19."""


class StoreError(FeatxError):
    """A store cannot be read or written."""


class RecipeMismatchError(StoreError):
    """Codes were made by another recipe than the one expected."""


class CodeRangeError(StoreError):
    """A code is too large for the store's numbers.

    Parameters
    ----------
    layer : str
        Of the code.
    value : float
        The largest that was met.
    """

    def __init__(self, layer: str, value: float) -> None:
        super().__init__(
            f"A code of {layer} is {value:.6g}; float16 holds at most 65504. "
            "Use --dtype float32 --overwrite."
        )
        self.layer = layer
        self.value = value


class FitError(FeatxError):
    """No classifier can be fitted: labels, splits or codes are missing."""


class ModelError(FeatxError):
    """A saved classifier cannot be read."""


class ClusterError(FeatxError):
    """A cluster is lost, or what it was given to do ended with an error."""
