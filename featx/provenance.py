"""The provenance of codes: how they were extracted, as far as featx reads it again.

The facts that a store or a model records come in, as plain values; checked values go out.
Records of early versions, and of other programs, may lack any of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from featx.documents import conform

__all__ = ["Provenance"]


def _moment(value: Any) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


@dataclass(frozen=True)
class Provenance:
    """How codes were extracted.

    Parameters
    ----------
    weights : str or None
        The weights, as for ``--weights``.
    rename : mapping of str to str, or None
        Layers of the weights file and their names in VGG19.
    root : str or None
        The folder of the images.
    created : datetime or None
        When the extraction began.
    device : str or None
        The device of the network.
    """

    weights: str | None = None
    rename: Mapping[str, str] | None = None
    root: str | None = None
    created: Annotated[datetime | None, _moment] = None
    device: str | None = None

    @classmethod
    def from_facts(cls, facts: Any) -> "Provenance":
        """Return the checked values of a record.

        Raises
        ------
        FieldError
            A value does not fit.
        """
        return conform(cls, facts)
