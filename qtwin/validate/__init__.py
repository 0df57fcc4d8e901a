"""The body of evidence as data: published numbers, and the public functions that must give them again."""
