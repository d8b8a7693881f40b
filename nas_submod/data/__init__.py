"""Loads images and labels from any source."""

from nas_submod.data.loading import Data, Split, join, load

__all__ = ["Data", "Split", "join", "load"]
