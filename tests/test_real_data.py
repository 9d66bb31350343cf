"""The main job on two real data sets: aerial photographs, and ants against bees."""

import numpy as np
import pytest

import featx

#: Data set, layer, how it is scored, and the range its accuracy must lie in. A wrong channel order,
#: mean or resize costs more than these ranges are wide; they are no target.
CASES = [
    ("rsscn7_350", "block4_pool", "5 folds", (0.78, 0.89)),
    ("hymenoptera", "block5_pool", "val", (0.88, 0.96)),
]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(("name", "layer", "scored_on", "expected"), CASES)
def test_extract_fit_and_predict(shared, tmp_path, name, layer, scored_on, expected):
    """The score is the known one of the network, and predictions on files repeat it."""
    images = shared / "data" / name
    store, model = tmp_path / "codes.h5", tmp_path / "model.skops"
    made = featx.extract(images, layer=layer, pool="avg", precision="bfloat16", output=store)
    assert made.n_failed == 0
    fitted = featx.fit(store, output=model)
    assert fitted.to_dict()["scored_on"] == scored_on
    assert expected[0] <= fitted.evaluation.accuracy.value <= expected[1]
    of_store = featx.predict(store, model=model)
    some = of_store["path"][::50]
    of_files = featx.predict([images / path for path in some], model=model)
    columns = [name for name in of_store if name.startswith("p_")]
    np.testing.assert_allclose(of_files[columns], of_store.loc[some.index, columns], atol=1e-6)
