"""The resources that a budget may name. A new one is a line here."""

from collections.abc import Mapping

from nas_submod.resources.additive import MADDS, PARAMS
from nas_submod.resources.base import Resource

RESOURCES: Mapping[str, Resource] = {resource.name: resource for resource in (PARAMS, MADDS)}
