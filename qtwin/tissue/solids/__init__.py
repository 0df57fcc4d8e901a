"""Tissue that is no stack of layers: label volumes, and inclusions in a slab."""
