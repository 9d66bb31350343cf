"""VGG19Codes: scikit-learn's own checks, and its codes against a store's."""

import pickle
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

import featx
from featx.errors import ImageError, OptionError, UnknownLayerError

TINY = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}


class OnTables(featx.VGG19Codes):
    """The transformer with the tag that makes scikit-learn run its checks.

    Its true tag says that it takes no tables of features, at which scikit-learn
    skips every check.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags


class OnTablesAsImages(OnTables):
    """The same, each row of a table drawn as an image first.

    So the checks of copying, pickling, fitting twice, subsets and order reach
    the transformer itself.
    """

    def fit(self, X, y=None):
        return super().fit(self._drawn(X, reset=True), y)

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(self._drawn(X, reset=False))

    def _drawn(self, X, *, reset):
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        levels = (np.abs(X) * 97 % 256).astype(np.uint8)
        return np.repeat(np.repeat(levels[:, None, :, None], 32, axis=1), 3, axis=3)


NEEDS_IMAGES = "feeds a table of floats; the transformer takes paths or uint8 images"
EXPECTED_FAILURES = {
    OnTables: dict.fromkeys(
        [
            "check_complex_data",
            "check_dict_unchanged",
            "check_dont_overwrite_parameters",
            "check_dtype_object",
            "check_estimators_dtypes",
            "check_estimators_fit_returns_self",
            "check_estimators_overwrite_params",
            "check_estimators_pickle",
            "check_f_contiguous_array_estimator",
            "check_fit2d_1feature",
            "check_fit2d_1sample",
            "check_fit2d_predict1d",
            "check_fit_check_is_fitted",
            "check_fit_idempotent",
            "check_fit_score_takes_y",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_n_features_in",
            "check_n_features_in_after_fitting",
            "check_pipeline_consistency",
            "check_positive_only_tag_during_fit",
            "check_readonly_memmap_input",
            "check_transformer_data_not_an_array",
            "check_transformer_general",
        ],
        NEEDS_IMAGES,
    )
    | {
        "check_estimators_empty_data_messages": "its message speaks of images, not of features",
        "check_estimators_nan_inf": "uint8 images hold no NaN; floats are refused before",
    },
    OnTablesAsImages: {},
}


@parametrize_with_checks(
    [OnTables(**TINY), OnTablesAsImages(**TINY)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator)],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_sklearn_checks(estimator, check):
    """scikit-learn's checks of an estimator's manners hold, but for the listed ones."""
    check(estimator)


@pytest.fixture
def arrays():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)


def test_paths_and_arrays_give_the_same_codes(arrays, tmp_path):
    """An image has the same code as a file and as an array, alone or in a list."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    codes = featx.VGG19Codes(**TINY, batch_size=2).fit(arrays)
    expected = codes.transform(arrays)
    assert expected.shape == (5, 64)
    assert expected.dtype == np.float32
    for X in (paths, list(map(str, paths)), np.array(list(map(str, paths)))[:, None], list(arrays)):
        assert np.array_equal(codes.transform(X), expected)


def test_codes_are_those_of_the_store(arrays, tmp_path):
    """The transformer and featx.extract agree bit for bit, layers side by side."""
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    settings = TINY | {"layer": ["block1_pool", "block2_conv1"], "resize": "pad"}
    store = tmp_path / "codes.h5"
    featx.extract(tmp_path, output=store, **settings)
    stored = featx.read_frame(store).to_numpy()
    assert np.array_equal(featx.VGG19Codes(**settings).fit_transform(arrays), stored)


def test_the_arrays_are_untouched_and_grey_is_rgb(arrays):
    """transform changes no array, and a grey image is one with three equal channels."""
    before = arrays.copy()
    codes = featx.VGG19Codes(**TINY)
    grey = arrays[..., 0]
    rgb = np.repeat(grey[..., None], 3, axis=3)
    assert np.array_equal(codes.fit_transform(grey), codes.transform(rgb))
    codes.transform(arrays)
    assert np.array_equal(arrays, before)


def test_it_works_in_a_pipeline_and_survives_pickle_and_clone(arrays):
    """A pipeline fits on images; a pickled or cloned transformer gives the same codes."""
    y = np.array(["a", "b", "a", "b", "a"])
    model = make_pipeline(featx.VGG19Codes(**TINY), RidgeClassifier()).fit(arrays, y)
    assert list(model.predict(arrays)) == list(y)
    codes = model[0].transform(arrays)
    assert np.array_equal(pickle.loads(pickle.dumps(model))[0].transform(arrays), codes)
    assert np.array_equal(clone(model[0]).fit_transform(arrays), codes)


def test_feature_names_are_those_of_the_frame(arrays):
    """The names of the columns are LAYER_NUMBER."""
    names = featx.VGG19Codes(**TINY).fit(arrays).get_feature_names_out()
    assert list(names[:2]) == ["block1_pool_0", "block1_pool_1"]
    assert len(names) == 64


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            np.zeros((2, 32, 32, 3)),
            "Expected paths, or uint8 images of shape (n, height, width, 3). Received an item of "
            "shape (32, 32, 3) and dtype float64. Images from 0 to 1 become uint8 by "
            "(255 * X).round().astype('uint8').",
        ),
        ([], "Found no images in X. Expected paths or uint8 images, received []."),
    ],
)
def test_what_is_no_image_is_refused(X, message):
    """Floats are refused, since nobody can know their range; so is nothing at all."""
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        featx.VGG19Codes(**TINY).fit(X)


def test_a_bad_file_is_named(tmp_path):
    """A file that cannot be read is an error with its path, since a row cannot be left out."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=f"^{re.escape(str(path))} cannot be read: empty file.$"):
        featx.VGG19Codes(**TINY).fit_transform([path])


def test_settings_are_checked_in_fit_not_in_the_constructor(arrays):
    """The constructor only stores, as scikit-learn asks; fit refuses a wrong layer."""
    codes = featx.VGG19Codes("block1_pol")
    with pytest.raises(UnknownLayerError, match=r"'block1_pol'.*'block1_pool'"):
        codes.fit(arrays)


@pytest.mark.parametrize("batch_size", [0, -1, "x", 2.5])
def test_a_wrong_batch_size_is_refused(arrays, batch_size):
    """Nothing but "auto" or a number from 1 is taken; no row is left unwritten."""
    message = f"No such batch size: {batch_size}. Expected --batch-size auto, or 1 and more."
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        featx.VGG19Codes(**TINY, batch_size=batch_size).fit_transform(arrays)
