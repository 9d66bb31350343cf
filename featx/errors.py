"""The errors that featx raises on purpose.

All of them derive from `FeatxError`. A message states what happened and which value was
received, what was expected, and what to type next. The command line prints the message
without a traceback and exits with code 1.

* FeatxError
    * OptionError             a setting has a value that is not allowed (also a ValueError)
        * UnknownLayerError   VGG19 has no layer of that name
    * OutputError             an output file cannot be written
        * ExistsError         the output exists already
        * BusyError           another run is writing the output
    * ImagesError             no images were found
    * ImageError              one image cannot be read
    * WeightsError            a weights file is missing, damaged or does not match VGG19
    * StoreError              a store of codes cannot be read or written
        * RecipeMismatchError codes were made with other settings
        * CodeRangeError      a code is too large for the store's data type
    * FitError                no classifier can be fitted on these codes and labels
    * ModelError              a saved classifier cannot be read
    * ClusterError            a cluster was lost, or a task failed on it
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
    """Base class of all errors that featx raises on purpose."""


class OptionError(FeatxError, ValueError):
    """Raised when a setting has a value that is not allowed."""


class UnknownLayerError(OptionError):
    """Raised when VGG19 has no layer of the requested name."""


class OutputError(FeatxError):
    """Raised when an output file or folder cannot be written."""


class ExistsError(OutputError):
    """Raised when the output exists and replacing it was not allowed."""


class BusyError(OutputError):
    """Raised when another run is writing the same output."""


class ImagesError(FeatxError):
    """Raised when no images are found, as in a missing folder or a manifest without paths."""


class ImageError(FeatxError):
    """Raised when one image cannot be read.

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
    """Raised when a weights file is missing, is damaged, or does not match VGG19."""


class StoreError(FeatxError):
    """Raised when a store of codes cannot be read or written."""


class RecipeMismatchError(StoreError):
    """Raised when codes were made with other settings than those expected."""


class CodeRangeError(StoreError):
    """Raised when a code is too large for the store's data type.

    Parameters
    ----------
    layer : str
        The layer of the code.
    value : float
        The largest value found.
    """

    def __init__(self, layer: str, value: float) -> None:
        super().__init__(
            f"A code of {layer} is {value:.6g}, but float16 holds at most 65504. "
            "Use --dtype float32 --overwrite."
        )
        self.layer = layer
        self.value = value


class FitError(FeatxError):
    """Raised when no classifier can be fitted because labels, splits or codes are missing."""


class ModelError(FeatxError):
    """Raised when a saved classifier cannot be read."""


class ClusterError(FeatxError):
    """Raised when a cluster is lost or one of its tasks fails."""
