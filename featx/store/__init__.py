"""The store: codes and the metadata of their images in one HDF5 file."""

from featx.store.export import export
from featx.store.frames import read_arrays, read_frame
from featx.store.layout import FORMAT, FORMAT_VERSION, Status, create_store, store_bytes
from featx.store.reading import ImageTable, Store, open_store
from featx.store.writing import ImageFacts, StoreWriter

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
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
    "store_bytes",
]
