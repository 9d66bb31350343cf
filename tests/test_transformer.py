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
    """The transformer with a tag that makes scikit-learn run its checks.

    With its own tag, which does not accept tables of features, scikit-learn skips them.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags


class OnTablesAsImages(OnTables):
    """The transformer of images that are made from the rows of a table.

    The checks of copying, pickling, fitting twice, subsets and order then reach the
    transformer itself.
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


NEEDS_IMAGES = "the check passes a table of floats; the transformer takes paths or uint8 images"
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
        "check_estimators_empty_data_messages": "the message names images, not features",
        "check_estimators_nan_inf": "uint8 images have no NaN, and floats are refused",
    },
    OnTablesAsImages: {
        "check_methods_sample_order_invariance": (
            "the check allows 1e-7, less than one step of float32: an image's place in its batch "
            "may change the last bit on some processors; our test of the order allows 1e-6"
        )
    },
}


@parametrize_with_checks(
    [OnTables(**TINY), OnTablesAsImages(**TINY)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES[type(estimator)],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_sklearn_checks(estimator, check):
    """scikit-learn's checks of estimators pass, except the listed ones."""
    check(estimator)


def test_the_order_of_images_changes_no_code():
    """Each image has the same code, whatever its place among the others."""
    X = 3 * np.random.default_rng(0).uniform(size=(20, 3))
    order = np.random.default_rng(1).permutation(20)
    transformer = OnTablesAsImages(**TINY).fit(X)
    np.testing.assert_allclose(
        transformer.transform(X[order]), transformer.transform(X)[order], rtol=1e-6, atol=1e-6
    )


@pytest.fixture
def arrays():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 56, 3), dtype=np.uint8)


def test_paths_and_arrays_give_the_same_codes(arrays, tmp_path):
    """The codes of a file and of an array are the same, and so are those of lists."""
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
    """The transformer and featx.extract return the same bits, with concatenated layers."""
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    settings = TINY | {"layer": ["block1_pool", "block2_conv1"], "resize": "pad"}
    store = tmp_path / "codes.h5"
    featx.extract(tmp_path, output=store, **settings)
    stored = featx.read_frame(store).to_numpy()
    assert np.array_equal(featx.VGG19Codes(**settings).fit_transform(arrays), stored)


def test_arrays_are_not_changed_and_grey_is_rgb(arrays):
    """A grey image has the codes of one with three equal channels."""
    before = arrays.copy()
    codes = featx.VGG19Codes(**TINY)
    grey = arrays[..., 0]
    rgb = np.repeat(grey[..., None], 3, axis=3)
    assert np.array_equal(codes.fit_transform(grey), codes.transform(rgb))
    codes.transform(arrays)
    assert np.array_equal(arrays, before)


def test_it_works_in_a_pipeline(arrays):
    """A pickled or cloned transformer returns the same codes."""
    y = np.array(["a", "b", "a", "b", "a"])
    model = make_pipeline(featx.VGG19Codes(**TINY), RidgeClassifier()).fit(arrays, y)
    assert list(model.predict(arrays)) == list(y)
    codes = model[0].transform(arrays)
    assert np.array_equal(pickle.loads(pickle.dumps(model))[0].transform(arrays), codes)
    assert np.array_equal(clone(model[0]).fit_transform(arrays), codes)


def test_feature_names_are_those_of_the_frame(arrays):
    """The names are LAYER_NUMBER."""
    names = featx.VGG19Codes(**TINY).fit(arrays).get_feature_names_out()
    assert list(names[:2]) == ["block1_pool_0", "block1_pool_1"]
    assert len(names) == 64


@pytest.mark.parametrize(
    ("X", "fact"), [(np.zeros((2, 32, 32, 3)), "float64"), ([], r"\[\]"), (3, "3")]
)
def test_other_inputs_are_refused(X, fact):
    """Floats (their range is unknown), an empty list and a number are refused."""
    with pytest.raises(OptionError, match=fact):
        featx.VGG19Codes(**TINY).fit(X)


def test_a_bad_file_is_named(tmp_path):
    """A file that cannot be read is an error, since no row can be left out."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=re.escape(str(path))):
        featx.VGG19Codes(**TINY).fit_transform([path])


def test_settings_are_checked_in_fit_not_in_the_constructor(arrays):
    """The constructor accepts a wrong layer, as scikit-learn requires; fit refuses it."""
    codes = featx.VGG19Codes("block1_pol")
    with pytest.raises(UnknownLayerError, match=r"'block1_pol'.*'block1_pool'"):
        codes.fit(arrays)


@pytest.mark.parametrize("batch_size", [0, "x"])
def test_a_wrong_batch_size_is_refused(arrays, batch_size):
    """A batch size is "auto", or an integer from 1."""
    with pytest.raises(OptionError, match=f"--batch-size.*{batch_size}"):
        featx.VGG19Codes(**TINY, batch_size=batch_size).fit_transform(arrays)
