"""Images: folders and tables become lists of images, and files become pixels."""

from featx.images.colours import to_rgb
from featx.images.decoding import MAX_PIXELS, THUMBNAIL_SIZE, DecodedImage, read_image
from featx.images.digests import FileDigest, read_digest
from featx.images.grey import GreyRule
from featx.images.listing import ImageRecord, Listing, list_images
from featx.images.memory import as_rgb, check_batch, image_of
from featx.images.resizing import PAD_COLOUR, array_views, resized, scaled_size
from featx.images.urls import (
    File,
    Url,
    as_file,
    as_folder,
    as_typed,
    check_file,
    is_local,
    local_file,
)

__all__ = [
    "MAX_PIXELS",
    "PAD_COLOUR",
    "THUMBNAIL_SIZE",
    "DecodedImage",
    "File",
    "FileDigest",
    "GreyRule",
    "ImageRecord",
    "Listing",
    "Url",
    "array_views",
    "as_file",
    "as_folder",
    "as_rgb",
    "as_typed",
    "check_batch",
    "check_file",
    "image_of",
    "is_local",
    "list_images",
    "local_file",
    "read_digest",
    "read_image",
    "resized",
    "scaled_size",
    "to_rgb",
]
