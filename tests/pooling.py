"""Every pooling in NumPy, computed in another way than in the network."""

import numpy as np


def plainly_pooled(maps, pool):
    """Pool feature maps, (n, h, w, c), in float64."""
    maps = maps.astype(np.float64)
    if pool == "none":
        return maps
    if pool == "avg+max":
        return np.hstack([plainly_pooled(maps, "avg"), plainly_pooled(maps, "max")])
    if pool in {"avg", "max"}:
        return maps.mean(axis=(1, 2)) if pool == "avg" else maps.max(axis=(1, 2))
    if pool == "bilinear":
        positions = maps.reshape(len(maps), -1, maps.shape[-1])
        products = np.einsum("npi,npj->nij", positions, positions) / positions.shape[1]
        rows, columns = np.triu_indices(maps.shape[-1])
        return np.sqrt(products[:, rows, columns] * np.where(rows == columns, 1, 2**0.5))
    n_cells = int(pool.removeprefix("grid:"))
    down, across = (touched(side, n_cells) for side in maps.shape[1:3])
    cells = [
        [maps[:, rows][:, :, columns].mean(axis=(1, 2)) for columns in across] for rows in down
    ]
    return np.moveaxis(np.array(cells), 2, 0)


def touched(n_positions, n_cells):
    """Return the positions that overlap with each cell if both divide the same length."""
    return [
        [
            k
            for k in range(n_positions)
            if (k + 1) * n_cells > cell * n_positions and k * n_cells < (cell + 1) * n_positions
        ]
        for cell in range(n_cells)
    ]
