"""Builds a TFLite file from tensors and operators, by the schema in ai-edge-litert."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nas_submod.export.extras import package

# The name under which a file holds the facts about its network.
METADATA = "nas_submod"


def schema() -> Any:
  """The classes of the parts of a TFLite file.

  Raises:
    ValueError: If package ai-edge-litert is missing.
  """
  return package("ai_edge_litert.schema_py_generated", "tflite")


class Builder:
  """Builds a TFLite file with one graph."""

  def __init__(self):
    self.schema = schema()
    self.tensors: list[Any] = []
    self.buffers = [self.schema.BufferT()]  # Buffer 0 is for tensors without constant values.
    self.operators: list[Any] = []
    self.codes: dict[int, int] = {}

  def buffer(self, content: np.ndarray) -> int:
    """Adds a buffer of constant bytes; returns its index."""
    self.buffers.append(self.schema.BufferT(data=np.ascontiguousarray(content).view(np.uint8)))
    return len(self.buffers) - 1

  def tensor(self, name: str, shape: tuple[int, ...]) -> int:
    """Adds a float32 tensor that an operator makes; returns its index."""
    return self._tensor(name, shape, self.schema.TensorType.FLOAT32, 0)

  def constant(self, name: str, values: np.ndarray) -> int:
    """Adds a constant tensor, float32 or int32; returns its index."""
    types = {"float32": self.schema.TensorType.FLOAT32, "int32": self.schema.TensorType.INT32}
    flat = np.ascontiguousarray(values).ravel()
    return self._tensor(name, values.shape, types[values.dtype.name], self.buffer(flat))

  def _tensor(self, name: str, shape: tuple[int, ...], kind: int, buffer: int) -> int:
    self.tensors.append(
      self.schema.TensorT(
        name=name.encode(), shape=[int(side) for side in shape], type=kind, buffer=buffer
      )
    )
    return len(self.tensors) - 1

  def operator(
    self, code: str, inputs: list[int], output: int, options: str = "", **fields: Any
  ) -> int:
    """Adds an operator; returns its output.

    Args:
      code: Its name in the schema, such as "CONV_2D".
      inputs: Tensors that it reads.
      output: The tensor that it makes.
      options: Name of its table of options, such as "Conv2DOptions".
      **fields: Fields of the table; an activation is "RELU", "RELU6" or "NONE".
    """
    number = getattr(self.schema.BuiltinOperator, code)
    operator = self.schema.OperatorT(
      opcodeIndex=self.codes.setdefault(number, len(self.codes)), inputs=inputs, outputs=[output]
    )
    if options:
      if active := fields.get("fusedActivationFunction"):
        active = getattr(self.schema.ActivationFunctionType, active)
        fields["fusedActivationFunction"] = active
      table = getattr(self.schema, f"{options}T")()
      for field, value in fields.items():
        assert hasattr(table, field), (options, field)
        setattr(table, field, value)
      operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
      operator.builtinOptions = table
    self.operators.append(operator)
    return output

  def finish(self, source: int, target: int, facts: Mapping[str, str]) -> bytes:
    """The bytes of the file.

    Args:
      source: The tensor "images".
      target: The tensor "logits".
      facts: The metadata.
    """
    s = self.schema
    text = np.frombuffer(json.dumps(dict(facts)).encode(), np.uint8)
    graph = s.SubGraphT(
      tensors=self.tensors,
      inputs=[source],
      outputs=[target],
      operators=self.operators,
      name=b"main",
    )
    signature = s.SignatureDefT(
      inputs=[s.TensorMapT(name=b"images", tensorIndex=source)],
      outputs=[s.TensorMapT(name=b"logits", tensorIndex=target)],
      signatureKey=b"serving_default",
      subgraphIndex=0,
    )
    model = s.ModelT(
      version=3,
      # Old readers use only the deprecated code of 8 bits.
      operatorCodes=[
        s.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)
        for code in self.codes
      ],
      subgraphs=[graph],
      description=b"nas_submod",
      metadata=[s.MetadataT(name=METADATA.encode(), buffer=self.buffer(text))],
      buffers=self.buffers,
      signatureDefs=[signature],
    )
    return packed(model)


def packed(model: Any) -> bytes:
  """The bytes of a file, from its schema object."""
  tools = package("ai_edge_litert.tools.flatbuffer_utils", "tflite")
  return bytes(tools.convert_object_to_bytearray(model))
