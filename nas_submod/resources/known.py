"""The default resources of a search."""

from collections.abc import Mapping

from nas_submod.resources.additive import FLASH, MADDS, PARAMS
from nas_submod.resources.base import Resource
from nas_submod.resources.memory import MEMORY

Table = Mapping[str, Resource]

RESOURCES: Table = {
  resource.name: resource for resource in (PARAMS["learned"], MADDS, FLASH["int8"], MEMORY["int8"])
}
