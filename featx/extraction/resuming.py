"""Going on with a store that a run left incomplete, or refusing to.

An output, and later the recipe and images of the new run, come in; the rows
still to do go out, or an error that names what differs. Nothing is written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from featx.errors import ExistsError, RecipeMismatchError, StoreError
from featx.images import read_digest
from featx.recipe import Recipe
from featx.store import Status, Store, open_store

__all__ = ["open_started", "rows_to_do"]


def open_started(output: Path) -> Store | None:
    """Return the incomplete store at `output`, or None where there is no file.

    Raises
    ------
    ExistsError
        What stands there is complete, or is no store.
    """
    if not output.exists():
        return None
    try:
        store = open_store(output)
    except StoreError as error:
        message = f"{output} exists, and cannot be gone on with. {error}. Or use another -o."
        raise ExistsError(message) from error
    if store.complete:
        message = (
            f"{output} exists: {len(store.images)} images, {'+'.join(store.recipe.layers)}. "
            "Use --overwrite to make it again, or another -o."
        )
        raise ExistsError(message)
    return store


def rows_to_do(
    store: Store,
    recipe: Recipe,
    columns: Mapping[str, Sequence[str | None]],
    files: Sequence[Path],
) -> tuple[int, ...]:
    """Return the rows of a store that a run has still to do, if it would make just this store.

    These are the pending rows, and those whose file is another by now.

    Parameters
    ----------
    store : Store
        Left incomplete.
    recipe : Recipe
        Of the run.
    columns : mapping of str to sequence of str or None
        The run's images, as `create_store` takes them.
    files : sequence of Path
        Where they lie.

    Raises
    ------
    RecipeMismatchError
        The run has other settings.
    StoreError
        The run has other images.
    """
    found = recipe.differences(store.recipe)
    if found:
        message = (
            f"{store.path} was left incomplete by a run with other settings: "
            f"{'; '.join(map(str, found))}. Go on with {' '.join(d.flag for d in found)}, "
            "or use --overwrite, or another -o."
        )
        raise RecipeMismatchError(message)
    if any(list(getattr(store.images, name)) != list(columns[name]) for name in columns):
        message = (
            f"{store.path} was left incomplete by a run over other images. "
            "Use --overwrite to start again, or another -o."
        )
        raise StoreError(message)
    images = store.images
    return tuple(
        row
        for row, file in enumerate(files)
        if images.status[row] == Status.PENDING or read_digest(file) != images.sha256[row]
    )
