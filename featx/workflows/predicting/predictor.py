"""A predictor: a model and its network in memory, for a service that classifies image by image.

`load_predictor` reads a model and its weights once. The result takes images from memory or from
files and returns labels and probabilities, and reads nothing else again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featx.errors import ImageError, OptionError
from featx.extraction.batching import Batcher, Views, flat_codes, settle_batch_size
from featx.fitting import Model
from featx.images import GreyRule, array_views, check_batch, image_of, read_image
from featx.network import Backbone, load_backbone
from featx.signatures import takes_fields_of
from featx.workflows.predicting.prepare import prepare_network
from featx.workflows.settings import PredictorSettings

__all__ = ["Predictions", "Predictor", "load_predictor"]


# More images than any device takes at once.
_MOST_IMAGES = 1 << 16


class Predictions(NamedTuple):
    """Labels of images, and the probabilities of all classes.

    Parameters
    ----------
    labels : ndarray of str, shape (n,)
        The predicted class of each image: the most probable one, unless the model has a
        threshold.
    probabilities : ndarray of shape (n, n_classes)
        Columns are in the order of the predictor's `classes`; each row sums to 1.
    """

    labels: NDArray[np.object_]
    probabilities: NDArray[np.float64]


class Predictor:
    """A model with its network, ready to classify images; `load_predictor` makes it.

    Several threads may call it at once.

    Parameters
    ----------
    model : Model
        Classifies codes.
    backbone : Backbone
        Turns images into codes of the model's recipe.
    """

    def __init__(self, model: Model, backbone: Backbone) -> None:
        self.model = model
        self.backbone = backbone

    def __repr__(self) -> str:
        return f"Predictor({self.model!r})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return self.model.classes

    def __call__(self, images: Sequence[Any] | NDArray[np.uint8]) -> Predictions:
        """Classify images.

        Parameters
        ----------
        images : sequence
            A list of images, each of which is an array of uint8 of shape (height, width, 3) in
            RGB or (height, width) in grey, a Pillow image, the bytes of an image file, a file
            that is open for reading bytes, a path or a URL; or an array of shape
            (n, height, width, 3).

        Returns
        -------
        Predictions
            Labels and probabilities, in the order of the images.

        Raises
        ------
        ImageError
            An image cannot be read; the message has its position in the list.
        OptionError
            `images` is not a list of images.
        """
        if not isinstance(images, list | tuple | np.ndarray):
            message = (
                f"The images are of type {type(images).__name__}, and a list of images was "
                "expected. Use [image] for one image."
            )
            raise OptionError(message)
        check_batch(images)
        found = [np.empty((0, len(self.classes)))]
        device = getattr(self.backbone, "device", None)
        largest = settle_batch_size("auto", self.backbone.recipe, _MOST_IMAGES, device)
        for start in range(0, len(images), largest):
            views = [
                self._views(item, start + k)
                for k, item in enumerate(images[start : start + largest])
            ]
            # The network is compiled for each size of a batch, so there are few sizes.
            batcher = Batcher(self.backbone, min(largest, 1 << (len(views) - 1).bit_length()))
            codes = flat_codes(batcher(views), self.backbone.recipe.layers)
            found.append(self.model.predict_proba(codes))
        probabilities = np.concatenate(found)
        classes = np.array(self.classes, dtype=object)
        return Predictions(classes[self.model.predicted_columns(probabilities)], probabilities)

    def _views(self, item: Any, position: int) -> Views:
        """Return the pixels of an image at the size of the network."""
        recipe = self.backbone.recipe
        size, resize, scales = recipe.view_size, recipe.resize, recipe.scales
        try:
            grey = GreyRule(recipe.grey, recipe.white)
            image = image_of(item, grey)
            if isinstance(image, np.ndarray):
                return array_views(image, size, resize, scales)
            return read_image(image, size, resize, scales=scales, jpeg=recipe.jpeg, grey=grey).views
        except ImageError as error:
            message = f"Image {position} of the list cannot be read: {error}."
            raise ImageError(message, error.sha256) from error


@takes_fields_of(PredictorSettings)
def load_predictor(settings: PredictorSettings) -> Predictor:
    """Load a model and its network, to classify images in memory as often as needed.

    Returns
    -------
    Predictor
        Call it with a list of images.

    Raises
    ------
    ModelError, WeightsError
        The model or the weights cannot be found or used.
    RecipeMismatchError
        The weights differ from those that the model was fitted on.
    OptionError
        A setting has a value that is not allowed.
    """
    model, recipe, source = prepare_network(settings)
    return Predictor(model, load_backbone(recipe, source, settings.device))
