"""Training and test data: datasets of shards, splits, sampling, augmentation, Walkers."""
