"""Gathering: a model, a sweep or a fine-tuning comes in, the contents of a page go out.

The source is read completely. Codes and images, to which it only refers, may be missing;
then the contents state why, and what to type.
"""
