"""Exports trained networks as files for a device: ONNX, TFLite, StableHLO; float or int8."""
