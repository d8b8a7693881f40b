"""CIFAR-10 within the parameters, multiply-adds and memory of MLPerf Tiny's image classifier.

Claim: within the costs of ResNet-8, MLPerf Tiny's network, the search finds a better network.
Expected: 91 minutes for 18 trainings, then 24 for the two finalists and 25 for `by_hand`. After 15
epochs the network found has a test accuracy of 87.09 ± 0.16%, ResNet-8 84.04 ± 0.31%; one designed
by hand has 86.81 ± 0.63% (two or three trainings; docs/benchmarks.md).
Commands:
  python -m experiments.search --config=configs/mlperf_tiny.py --config.data.source=npz:cifar10.npz
    --workdir=runs/tiny
  python -m experiments.train --config=configs/mlperf_tiny.py --config.data.source=npz:cifar10.npz
    --architecture=runs/tiny/result.json --workdir=runs/tiny_trained --config.final.epochs=15
  python -m experiments.export --workdir=runs/tiny_trained
With --pareto the search finds the best network within each of three budgets, from shared trainings.
"""

from ml_collections import ConfigDict

from configs import digits
from nas_submod.resources import budgets

# ResNet-8 of MLPerf Tiny with 16 channels, and its relatives with 12 and 8. Parameters have batch
# norm folded in; memory is in bytes of int8, without the padded copies that TFLite Micro makes of
# the inputs of strided convolutions (config.resources.memory = "tflite_micro").
BUDGETS = {
  "w16": {"params": 77_706, "madds": 12_500_992, "memory": 49_152},
  "w12": {"params": 43_978, "madds": 7_114_752, "memory": 36_864},
  "w8": {"params": 19_786, "madds": 3_235_840, "memory": 24_576},
}


def get_config(mode: str = "") -> ConfigDict:
  """The config.

  Modes "w16" (the default), "w12" and "w8" set budgets. Mode "half" has images of 16x16 pixels, and
  a quarter of the multiply-adds and of the memory. Mode "smoke" checks that everything works.
  """
  if mode not in ("", *BUDGETS, "half", "smoke"):
    raise ValueError(f"unknown mode {mode!r}; allowed: {', '.join(BUDGETS)}, half, smoke or none")
  config = digits.get_config()
  config.space.name = "mlperf_tiny"
  config.data.update({"source": "cifar10", "validation_size": 2_560})
  config.resources.params = "folded"
  config.budget = budgets(**BUDGETS.get(mode, BUDGETS["w16"]))
  config.search.update(
    {
      "optimizer": "surrogate",
      "options": {"evaluations": 18},
      "finalists": 2,
      "finalist_replicates": 2,
      "references": ("by_hand",),
    }
  )
  # For --pareto: three devices.
  config.front = tuple(BUDGETS[name] for name in ("w8", "w12", "w16"))
  recipe = {"batch_size": 128, "crop_padding": 4, "flip": True, "weight_decay": 2e-4}
  # Small batches make more steps of an epoch. One epoch with batches of 128 prefers networks that
  # learn fast and are worse in the end (docs/benchmarks.md).
  steps = {"steps": 0, "epochs": 2.0, "batch_size": 32, "learning_rate": 0.1}
  config.train.update(recipe | steps)
  config.train.steps_per_call = 50
  # For benchmarks.shared_weights, and for the option "features" of the optimizer.
  config.evaluation.store.update(
    {
      "steps": 0,
      "epochs": 10.0,
      "batch_size": 128,
      "learning_rate": 0.1,
      "warmup_steps": 200,
      "steps_per_call": 50,
      "checkpoint_every": 250,
    }
  )
  config.evaluation.update({"statistics_images": 640, "pool": 256})
  # After 15 epochs by_hand has 84.7% at learning rate 0.1, 86.8% at 0.3.
  config.final.update(recipe | {"epochs": 60.0, "learning_rate": 0.3})
  if mode == "half":
    config.space.image_shape = (16, 16, 3)
    config.data.image_size = 16
    quarters = {
      name: limits | {key: limits[key] / 4 for key in ("madds", "memory")}
      for name, limits in BUDGETS.items()
    }
    config.budget = budgets(**quarters["w16"])
    config.front = tuple(quarters[name] for name in ("w8", "w12", "w16"))
    config.train.crop_padding = config.final.crop_padding = 2
  elif mode == "smoke":
    config.data.update({"train_size": 512, "validation_size": 128, "test_size": 128})
    config.train.update({"epochs": 0.0, "steps": 2})
    config.evaluation.store.update({"epochs": 0.0, "steps": 4, "warmup_steps": 0})
    config.evaluation.update({"statistics_images": 128, "pool": 8})
    config.search.options.evaluations = 2
    config.search.update({"finalists": 2, "finalist_replicates": 2})
    config.final.epochs = 1.0
  return config
