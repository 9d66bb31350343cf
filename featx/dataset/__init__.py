"""Labels, groups, near-duplicates, splits and folds of the images that a classifier learns from."""
