"""What several tests share: trees, an independent look at the disk, ways to go wrong."""
