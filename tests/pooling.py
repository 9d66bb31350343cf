"""Every pooling in NumPy, written another way than the network's, for several test files."""

import numpy as np


def plainly_pooled(maps, pool):
    """Return maps, (n, h, w, c), as codes; sums are exact, and a cell has what it touches."""
    maps = maps.astype(np.float64)
    if pool == "none":
        return maps
    if pool == "avg+max":
        return np.hstack([plainly_pooled(maps, "avg"), plainly_pooled(maps, "max")])
    if pool in {"avg", "max"}:
        return maps.mean(axis=(1, 2)) if pool == "avg" else maps.max(axis=(1, 2))
    if pool == "bilinear":
        places = maps.reshape(len(maps), -1, maps.shape[-1])
        products = np.einsum("npi,npj->nij", places, places) / places.shape[1]
        rows, columns = np.triu_indices(maps.shape[-1])
        return np.sqrt(products[:, rows, columns] * np.where(rows == columns, 1, 2**0.5))
    n_cells = int(pool.removeprefix("grid:"))
    down, across = (touched(side, n_cells) for side in maps.shape[1:3])
    cells = [
        [maps[:, rows][:, :, columns].mean(axis=(1, 2)) for columns in across] for rows in down
    ]
    return np.moveaxis(np.array(cells), 2, 0)


def touched(n_places, n_cells):
    """Return, for each cell, the places that it touches where both fill one unit of length."""
    return [
        [
            place
            for place in range(n_places)
            if (place + 1) * n_cells > cell * n_places and place * n_cells < (cell + 1) * n_places
        ]
        for cell in range(n_cells)
    ]
