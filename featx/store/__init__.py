"""The store: codes and the metadata of their images in one HDF5 file."""

from featx.store.export import export
from featx.store.frames import read_arrays, read_frame
from featx.store.layout import Status, create_store
from featx.store.reading import ImageTable, Store, open_store
from featx.store.writing import ImageFacts, StoreWriter

__all__ = [
    "ImageFacts",
    "ImageTable",
    "Status",
    "Store",
    "StoreWriter",
    "create_store",
    "export",
    "open_store",
    "read_arrays",
    "read_frame",
]
