"""The set function: a value, and marginal gains where they are cheaper than values."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from nas_submod.precision import full_precision
from nas_submod.validation import first_line

_GAINS = ("init", "gains", "add")
_MEMBERS = ("value", *_GAINS, "gain")
_CHAIN, _ELEMENTS = 6, 4  # sets on which `check` compares gains, and elements of each
State = Any  # what a function remembers of a set so that gains are cheap


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class SetFunction:
  """A traceable set function over `n` elements.

  It is a pytree of its members, each a `Partial`. Their arrays are arguments of a program, not
  constants. An array that several members share is passed once.

  Attributes:
    value: `mask [n] -> []`.
    init: `mask [n] -> state`; None if gains are no cheaper than values.
    gains: `state -> [n]`, the marginal gain of every element outside the set.
    add: `(state, element) -> state`, the state of the set with that element.
    gain: `(state, element) -> []`, the marginal gain of one element outside the set. The default
      takes it from `gains`; then a lazy run measures all gains at once.
    n: Number of elements in the ground set; None leaves it unchecked.

  Raises:
    ValueError: If only some of `init`, `gains` and `add` are given, `value` is not a function, or
      `n` is not a positive whole number.
  """

  value: Callable[[Any], jax.Array]
  init: Callable[[Any], State] | None = None
  gains: Callable[[State], jax.Array] | None = None
  add: Callable[[State, Any], State] | None = None
  gain: Callable[[State, Any], jax.Array] | None = None
  n: int | None = None

  def __post_init__(self) -> None:
    """Wraps plain functions in `Partial`, which makes them part of the pytree's structure."""
    if not callable(self.value):
      raise ValueError(f"value must be a function `mask [n] -> []`, got {self.value!r}")
    if self.n is not None and not (isinstance(self.n, int | np.integer) and self.n > 0):
      raise ValueError(f"n must be a positive whole number or None, got {self.n!r}")
    missing = [name for name in _GAINS if getattr(self, name) is None]
    if missing and not (len(missing) == len(_GAINS) and self.gain is None):
      raise ValueError(f"gains need {', '.join(_GAINS)}; missing: {', '.join(missing)}")
    for name in _MEMBERS:
      member = getattr(self, name)
      if member is not None and not isinstance(member, Partial):
        object.__setattr__(self, name, Partial(member))
    if self.gains is not None and self.gain is None:
      object.__setattr__(self, "gain", Partial(_one_of_all, self.gains))

  def __call__(self, mask: Any) -> jax.Array:
    """Value of the set `mask [n]`, `[]`."""
    return self.value(mask)

  @property
  def incremental(self) -> bool:
    """Whether gains are cheaper than values."""
    return self.init is not None

  @property
  def selective(self) -> bool:
    """Whether the gain of one element is cheaper than the gains of all."""
    return self.gain is not None and getattr(self.gain, "func", None) is not _one_of_all

  def check(self, n: int | None = None, seed: int = 0) -> None:
    """Checks on a random chain of sets that gains are differences of values.

    Args:
      n: Number of elements in the ground set; by default the function's own.
      seed: Seed of the chain.

    Raises:
      ValueError: If `gains`, `gain` or `add` disagrees with `value`, a value is not finite, or a
        shape is wrong. The error says where.
    """
    n = self.n if n is None else n
    if n is None or not self.incremental:
      raise ValueError("check needs a function with gains, and n unless the function has it")
    with full_precision():
      self._check_shapes(n)
      self._check_gains(n, seed)

  def _check_gains(self, n: int, seed: int) -> None:
    assert self.init and self.gains and self.gain and self.add
    order = np.random.default_rng(seed).permutation(n)
    value, init, add = jax.jit(self.value), jax.jit(self.init), jax.jit(self.add)
    gains_of, gain_of = jax.jit(self.gains), jax.jit(self.gain)
    added = init(np.zeros(n, bool))
    for size in range(min(_CHAIN, n)):
      mask = np.isin(np.arange(n), order[:size])
      state, elements = init(mask), order[size : size + _ELEMENTS]
      values = np.array([value(mask | (np.arange(n) == e)) for e in elements], np.float64)
      here = float(value(mask))
      if not np.isfinite([here, *values]).all():
        raise ValueError(
          f"value is not finite at the set {sorted(order[:size].tolist())} or at a set of one "
          "element more"
        )
      differences = values - here
      for name, found in (
        ("gains", np.asarray(gains_of(state))[elements]),
        ("gain", np.array([gain_of(state, e) for e in elements])),
        ("add", np.asarray(gains_of(added))[elements]),
      ):
        close = np.isclose(found, differences, rtol=1e-3, atol=1e-4 * np.abs(values).max())
        if not close.all():
          row = int(np.argmin(close))
          to_blame = name if name == "add" else f"{name} or init"
          raise ValueError(
            f"{to_blame} is wrong: element {elements[row]} gains {found[row]:g} at the set "
            f"{sorted(order[:size].tolist())}, but values differ by {differences[row]:g}"
          )
      added = add(added, order[size])

  def _check_shapes(self, n: int) -> None:
    mask, element = jax.ShapeDtypeStruct((n,), bool), jax.ShapeDtypeStruct((), np.int32)

    def form_of(name: str, *arguments: Any) -> Any:
      try:
        return jax.eval_shape(getattr(self, name), *arguments)
      except Exception as error:
        raise ValueError(
          f"{name} cannot be traced for sets of {n} elements: {first_line(error)}"
        ) from error

    state = form_of("init", mask)
    for name, found, shape in (
      ("value", form_of("value", mask), ()),
      ("gains", form_of("gains", state), (n,)),
      ("gain", form_of("gain", state, element), ()),
    ):
      if getattr(found, "shape", None) != shape:
        raise ValueError(f"{name} must return an array of shape {shape}, got {found}")
    after = form_of("add", state, element)
    if changed := changed_leaves(state, after):
      raise ValueError(f"add must return a state as init does: {changed}")

  def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Leaves, each once; static fields: the members' structure, the places of leaves, `n`."""
    # By identity: a shared array is one argument of a program, not a copy for each member.
    leaves, structure = jax.tree.flatten([getattr(self, name) for name in _MEMBERS])
    distinct = {id(leaf): leaf for leaf in leaves}
    order = {key: place for place, key in enumerate(distinct)}
    places = tuple(order[id(leaf)] for leaf in leaves)
    return tuple(distinct.values()), (structure, places, self.n)

  @classmethod
  def tree_unflatten(cls, static: tuple[Any, ...], leaves: tuple[Any, ...]) -> "SetFunction":
    """The function with these leaves."""
    structure, places, n = static
    members = jax.tree.unflatten(structure, [leaves[place] for place in places])
    return cls(**dict(zip(_MEMBERS, members)), n=n)


def as_argument(function: Callable[..., Any]) -> Any:
  """The function as a pytree, so that its arrays are arguments of a program, not constants."""
  return function if isinstance(function, Partial | SetFunction) else Partial(function)


def changed_leaves(before: Any, after: Any) -> str:
  """Names the leaves of a state whose dtype or shape has changed; empty if none has."""

  def forms_of(state: Any) -> dict[str, str]:
    return {
      jax.tree_util.keystr(path): f"{jnp.result_type(leaf)} {np.shape(leaf)}"
      for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }

  was, now = forms_of(before), forms_of(after)
  changed = [
    f"state{place} was {was.get(place, 'absent')}, is {now.get(place, 'absent')}"
    for place in was | now
    if was.get(place) != now.get(place)
  ]
  structures: set[Any] = {jax.tree.structure(state) for state in (before, after)}
  if not changed and len(structures) > 1:
    return "a container or a static field of it changed"
  return "; ".join(changed)


def _one_of_all(gains: Callable[[State], jax.Array], state: State, element: Any) -> jax.Array:
  return gains(state)[element]
