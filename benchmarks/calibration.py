"""Calibration of all classifiers side by side, by repeated cross-validation on a store.

    featx extract data --layer block4_pool --pool avg --size 96
    python benchmarks/calibration.py codes.h5

The row "votes" is the SVM with scikit-learn's own decision scores, which count the pairs of
classes that a class wins, as in featx 0.1.
"""

import argparse

from featx.fitting import CLASSIFIERS, fit

VOTES = {"decision_function_shape": "ovr", "break_ties": True}


def main() -> None:
    """Print accuracy, calibration error, log loss and Brier score of each classifier."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codes", help="store of labelled images")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clf", nargs="+", default=list(CLASSIFIERS))
    arguments = parser.parse_args()
    cases = [("votes", "svm-rbf", VOTES), *((name, name, None) for name in arguments.clf)]
    print("| classifier | accuracy | calibration error | log loss | Brier score |")
    print("| --- | --- | --- | --- | --- |")
    for title, clf, settings in cases:
        found = fit(
            arguments.codes,
            clf=clf,
            settings=settings,
            repeats=arguments.repeats,
            baselines=False,
        ).evaluation
        scores = (found.accuracy, found.calibration_error, found.log_loss, found.brier)
        print(f"| {title} | {' | '.join(f'{each.value:.3f}' for each in scores)} |", flush=True)


if __name__ == "__main__":
    main()
