"""Images and labels, from every source to arrays."""

from nas_submod.data.loading import Data, Split, join, load

__all__ = ["Data", "Split", "join", "load"]
