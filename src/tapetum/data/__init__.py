"""Pictures in: files, decoding, the cache, splits, preparation, augmentation, batches."""
