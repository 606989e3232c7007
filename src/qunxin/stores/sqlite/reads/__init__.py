"""The snapshot reads, one file for each family. Each runs on a reader's thread."""
