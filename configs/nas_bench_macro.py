"""The space of NAS-Bench-Macro on CIFAR-10 at 16x16 pixels, for benchmarks.shared_weights.

Claim: shared weights, trained in an hour on one CPU core, can be compared with the published
accuracies of all 3,969 networks (Su et al., CVPR 2021), which are from full trainings on 32x32
pixels. The budgets are the costs of the largest network, so every network is allowed.
Expected: see "Shared weights" in docs/benchmarks.md.
Command: python -m benchmarks.shared_weights --config=configs/nas_bench_macro.py
  --config.data.source=npz:cifar10.npz --against=nas_bench_macro.csv --workdir=runs/macro
"""

from ml_collections import ConfigDict

from configs import digits
from nas_submod.resources import budgets


def get_config(mode: str = "") -> ConfigDict:
  """The config; mode "smoke" trains for 2 steps."""
  config = digits.get_config()
  config.space.update({"name": "nas_bench_macro", "image_shape": (16, 16, 3)})
  config.data.update({"source": "npz:cifar10.npz", "validation_size": 640, "image_size": 16})
  config.budget = budgets(params=2_932_586, madds=26_412_032)
  config.train.update(
    {"steps": 4_000, "batch_size": 64, "learning_rate": 0.1, "flip": True, "steps_per_call": 64}
  )
  config.evaluation.store.update(
    {
      "steps": 6_400,
      "warmup_steps": 320,
      "steps_per_call": 64,
      "checkpoint_every": 640,
    }
  )
  config.evaluation.update({"statistics_images": 384, "least_share": 0.0})
  config.final.update({"batch_size": 128, "flip": True, "epochs": 50.0})
  if mode == "smoke":
    config.train.steps = 2
    config.evaluation.store.update({"steps": 16, "warmup_steps": 0})
    config.evaluation.pool = 32
    config.final.epochs = 1.0
    config.search.finalists = 2
    config.search.finalist_replicates = 2
  elif mode:
    raise ValueError(f'unknown mode {mode!r}; allowed: "smoke" or none')
  return config
