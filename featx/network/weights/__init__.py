"""Weights of VGG19: found, checked, read by layer name, listed, downloaded.

The value of --weights comes in; NumPy arrays by layer name go out. This package imports
neither TensorFlow nor Keras: a file is read as data (HDF5, zip and JSON) and never run.
"""
