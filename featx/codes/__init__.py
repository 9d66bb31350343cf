"""Matrices of codes: joined stores, the Gram matrix, and principal components."""

from featx.codes.gram import GramCoordinates, UnitRows
from featx.codes.joining import JoinedStores, join_stores
from featx.codes.matrix import CodeMatrix

__all__ = ["CodeMatrix", "GramCoordinates", "JoinedStores", "UnitRows", "join_stores"]
