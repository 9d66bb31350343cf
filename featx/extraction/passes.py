"""Passes: which rows go through the network together, and for which stores.

Jobs of the same images come in. Passes come out: each one is a set of rows that lack the
same layers. This module does not compute or write anything.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from featx.extraction.prepare import ExtractionJob
from featx.extraction.resuming import ReusableRow
from featx.network.backbone import joint_name, joint_recipe
from featx.recipe import Recipe

__all__ = ["Pass", "PassOutput", "divide_into_passes"]


@dataclass(frozen=True)
class PassOutput:
    """The codes that one job takes from a pass.

    Parameters
    ----------
    job : int
        Index of the job.
    names : dict of str to str
        Layers of the store, and the backbone's name of each one.
    reusable : dict of int to ReusableRow
        Rows whose other layers are copied from an earlier store.
    """

    job: int
    names: dict[str, str]
    reusable: dict[int, ReusableRow]


@dataclass(frozen=True)
class Pass:
    """Rows that go through the network, for the jobs and layers that lack them.

    Parameters
    ----------
    recipes : tuple of Recipe
        Recipes of the computed codes, one for each output.
    rows : tuple of int
        Rows of the stores.
    outputs : tuple of PassOutput
        The codes that each job takes.
    """

    recipes: tuple[Recipe, ...]
    rows: tuple[int, ...]
    outputs: tuple[PassOutput, ...]

    @property
    def recipe(self) -> Recipe:
        """Recipe of the backbone that computes all codes at once."""
        return joint_recipe(self.recipes)

    def narrowed(self, rows: Sequence[int]) -> "Pass":
        """Return the pass for some of its rows."""
        outputs = tuple(
            dataclasses.replace(
                each, reusable={row: each.reusable[row] for row in rows if row in each.reusable}
            )
            for each in self.outputs
        )
        return dataclasses.replace(self, rows=tuple(rows), outputs=outputs)


def divide_into_passes(jobs: Sequence[ExtractionJob]) -> list[Pass]:
    """Group the rows of jobs by the layers that each job lacks."""
    missing: defaultdict[int, dict[int, tuple[str, ...]]] = defaultdict(dict)
    for k, job in enumerate(jobs):
        for row in job.remaining.rows:
            missing[row][k] = job.recipe.layers
        for each in job.remaining.extended:
            stored = each.store.recipe.layers
            missing[each.row][k] = tuple(x for x in job.recipe.layers if x not in stored)
    groups: defaultdict[tuple[tuple[int, tuple[str, ...]], ...], list[int]] = defaultdict(list)
    for row in sorted(missing):
        groups[tuple(sorted(missing[row].items()))].append(row)
    reusable = [{each.row: each for each in job.remaining.extended} for job in jobs]
    passes = []
    for layers_of_jobs, rows in groups.items():
        outputs = []
        for place, (k, layers) in enumerate(layers_of_jobs):
            joint = len(layers_of_jobs) > 1
            names = {name: joint_name(place, name) if joint else name for name in layers}
            earlier = {row: reusable[k][row] for row in rows if row in reusable[k]}
            outputs.append(PassOutput(k, names, earlier))
        recipes = tuple(jobs[k].recipe.with_layers(layers) for k, layers in layers_of_jobs)
        passes.append(Pass(recipes, tuple(rows), tuple(outputs)))
    return passes
