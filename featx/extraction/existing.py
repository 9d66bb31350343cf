"""The stores that exist at the output of an extraction.

An output comes in. The store there, and the unfinished update next to it, come out, opened; or
the reason why the output cannot be resumed. This module writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.choices import Grey
from featx.errors import ExistsError, StoreError
from featx.recipe import Difference, Recipe
from featx.store import Store, open_store

__all__ = ["Columns", "ExistingStore", "find_existing", "has_images", "recipe_differences"]

Columns = Mapping[str, Sequence[str | None]]
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class ExistingStore:
    """The stores that exist at an output; `find_existing` makes it.

    Parameters
    ----------
    output : Path
        The output; a symbolic link is resolved.
    store : Store or None
        The store at the output, complete or not.
    part : Store or None
        The unfinished store that an interrupted update left next to it.
    stamps : tuple
        Inode, size and modification time of both files, to detect a change.
    replaces : bool
        Whether both files will be replaced.
    """

    output: Path
    store: Store | None
    part: Store | None
    stamps: tuple[_Stamp, _Stamp]
    replaces: bool = False

    @property
    def part_path(self) -> Path:
        """File in which an update is built."""
        return _part_path(self.output)

    @property
    def grey(self) -> Grey:
        """The rule for grey levels of the stores, or of a new store."""
        store = self.store or self.part
        return store.recipe.grey if store is not None else Recipe.grey

    def check_unchanged(self) -> None:
        """Check that no other run has changed the files since.

        Raises
        ------
        StoreError
            Another run has changed them.
        """
        if self.stamps != _stamps(self.output):
            message = (
                f"Another run has changed {self.output} since this one started. Run the same "
                "command again: it resumes from there."
            )
            raise StoreError(message)


def find_existing(output: Path, *, ignored: bool = False) -> ExistingStore:
    """Find the stores at an output and next to it.

    Parameters
    ----------
    output : Path
        The store to write.
    ignored : bool, default=False
        Whether existing files will be replaced, whatever they are.

    Returns
    -------
    ExistingStore
        The stores, opened; none if `ignored`.

    Raises
    ------
    ExistsError
        A file exists and is not a store.
    """
    output = output.resolve() if output.is_symlink() else output
    stamps = _stamps(output)
    if ignored:
        return ExistingStore(output, None, None, stamps, replaces=True)
    return ExistingStore(output, _open(output), _open(_part_path(output)), stamps)


def recipe_differences(store: Store, recipe: Recipe) -> list[Difference]:
    """Return how a run differs from a store; the run may add layers, but not leave any out."""
    both = {*recipe.layers, *store.recipe.layers}
    return recipe.differences(store.recipe.with_layers(both))


def has_images(store: Store, recipe: Recipe, columns: Columns) -> bool:
    """Return whether a store has exactly the layers of a recipe and these images."""
    return store.recipe.layers == recipe.layers and all(
        list(getattr(store.images, name)) == list(columns[name]) for name in columns
    )


def _part_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def _stamps(output: Path) -> tuple[_Stamp, _Stamp]:
    return _stamp(output), _stamp(_part_path(output))


def _stamp(path: Path) -> _Stamp:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _open(path: Path) -> Store | None:
    if not path.exists():
        return None
    try:
        return open_store(path)
    except StoreError as error:
        reason = str(error).rstrip(".")
        message = f"{path} exists and cannot be resumed. {reason}. Or choose another -o."
        raise ExistsError(message) from error
