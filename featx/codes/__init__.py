"""Matrices of codes: joined stores, normalisation, Gram matrix and principal components."""

from featx.codes.components import PrincipalComponents
from featx.codes.gram import GramCoordinates
from featx.codes.joining import JoinedStores, join_stores
from featx.codes.matrix import CodeMatrix
from featx.codes.pixels import pixel_features
from featx.codes.scaling import CentredRows, UnitRows

__all__ = [
    "CentredRows",
    "CodeMatrix",
    "GramCoordinates",
    "JoinedStores",
    "PrincipalComponents",
    "UnitRows",
    "join_stores",
    "pixel_features",
]
