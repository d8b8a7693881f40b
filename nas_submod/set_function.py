"""What a set function is: a value, and gains where they are cheaper."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import Partial

_GAINS = ("init", "marginals", "commit")
_MEMBERS = ("value", *_GAINS, "marginal")
Cover = Any  # what a function remembers of a set, so that gains are cheap


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class SetFunction:
  """A traceable set function over `n` elements, a pytree of its members, which become `Partial`s.

  Arrays in these are arguments of a program; one that several members share is given once.

  Attributes:
    value: `mask [n] -> []`.
    init: `mask [n] -> cover`, or None where gains are no cheaper than values.
    marginals: `cover -> [n]`, the gain of every element outside the set.
    commit: `(cover, element) -> cover`, of the set with that element.
    marginal: `(cover, element) -> []`, the gain of one element outside the set; by default that of
      `marginals`.
    n: Elements of the ground set; None where that is not said, and so not checked.

  Raises:
    ValueError: If only some of `init`, `marginals` and `commit` are given.
  """

  value: Callable[[Any], jax.Array]
  init: Callable[[Any], Cover] | None = None
  marginals: Callable[[Cover], jax.Array] | None = None
  commit: Callable[[Cover, Any], Cover] | None = None
  marginal: Callable[[Cover, Any], jax.Array] | None = None
  n: int | None = None

  def __post_init__(self) -> None:
    """Makes plain functions `Partial`s, whose identity is part of the structure."""
    gains = [getattr(self, name) is None for name in _GAINS]
    if any(gains) and not all([*gains, self.marginal is None]):
      raise ValueError(f"gains need {', '.join(_GAINS)}; absent: {_GAINS[gains.index(True)]}")
    for name in _MEMBERS:
      member = getattr(self, name)
      if member is not None and not isinstance(member, Partial):
        object.__setattr__(self, name, Partial(member))
    if self.marginals is not None and self.marginal is None:
      object.__setattr__(self, "marginal", Partial(_one_of_all, self.marginals))

  def __call__(self, mask: Any) -> jax.Array:
    """The value of the set `mask [n]`, `[]`."""
    return self.value(mask)

  @property
  def incremental(self) -> bool:
    """Whether gains are cheaper than values."""
    return self.init is not None

  def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Leaves, each once; the members' structure and which leaf stands where."""
    leaves, structure = jax.tree.flatten([getattr(self, name) for name in _MEMBERS])
    distinct = {id(leaf): leaf for leaf in leaves}
    order = {key: place for place, key in enumerate(distinct)}
    places = tuple(order[id(leaf)] for leaf in leaves)
    return tuple(distinct.values()), (structure, places, self.n)

  @classmethod
  def tree_unflatten(cls, static: tuple[Any, ...], leaves: tuple[Any, ...]) -> "SetFunction":
    """The function of these leaves."""
    structure, places, n = static
    members = jax.tree.unflatten(structure, [leaves[place] for place in places])
    return cls(**dict(zip(_MEMBERS, members)), n=n)


def _one_of_all(marginals: Callable[[Cover], jax.Array], cover: Cover, element: Any) -> jax.Array:
  return marginals(cover)[element]
