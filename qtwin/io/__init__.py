"""Files: results of a run, and its loggers."""
