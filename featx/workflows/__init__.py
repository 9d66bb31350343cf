"""What joins the rooms: predictions from images or from a store."""

from featx.workflows.prediction import predict

__all__ = ["predict"]
