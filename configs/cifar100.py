"""RCAS on CIFAR-100 at the size of the paper: 36 positions, six block types, both budgets.

Claim: the paper's search (Xiong, Mehta, Singh, ICCV 2019) finds RCNet, 76.1% top-1 with 1.92M
parameters and 87.3M multiply-adds, in two GPU-days.
Expected: not yet measured at full length here; the first steps run on a CPU (docs/benchmarks.md).
Command, with CIFAR-100 prepared for TFDS:
  python -m experiments.search --config=configs/cifar100.py --workdir=runs/cifar100
From an npz file of uint8 arrays x_train, y_train, x_test, y_test:
  ... --config.data.source=npz:PATH
A shortened search, minutes on a CPU, ends after the first additions:
  ... --config.train.epochs=0 --config.train.steps=10 --config.train.batch_size=32
  --config.train.schedule=cosine --config.search.max_evaluations=60
"""

from ml_collections import ConfigDict

from configs import digits
from nas_submod.resources import budgets


def get_config(mode: str = "") -> ConfigDict:
  """The config; mode "smoke" trains candidates for 2 steps.

  Mode "shared" is the same search by shared weights, short enough for two CPU cores: networks are
  scored, and finalists train for an epoch. About 4 s per step and 10 s per score on one core take
  15 hours. A tenth of it was run, too short to compare depths: see docs/benchmarks.md.
  """
  config = digits.get_config()
  config.space.name = "rcnet_cifar100"
  # The paper holds out ten images of every class.
  config.data.update({"source": "cifar100", "validation_size": 1_000})
  config.budget = budgets(params=2.4e6, madds=91.1e6)
  config.score = "accuracy"
  config.train.update(
    {
      "steps": 0,
      "epochs": 10.0,
      "batch_size": 128,
      "learning_rate": 0.1,
      "schedule": "multistep",
      "milestones": (4, 7, 9),
      "crop_padding": 4,
      "flip": True,
      "steps_per_call": 100,
    }
  )
  config.evaluation.store.update(
    {
      "steps": 0,
      "epochs": 60.0,
      "warmup_steps": 500,
      "steps_per_call": 48,
      "checkpoint_every": 480,
    }
  )
  config.final.update({name: config.train[name] for name in config.train if name in config.final})
  config.final.update({"epochs": 200.0, "milestones": (60, 120, 180), "log_every": 100})
  if mode == "smoke":
    config.train.update({"steps": 2, "epochs": 0.0, "schedule": "cosine", "batch_size": 16})
    config.evaluation.store.update({"steps": 16, "epochs": 0.0, "warmup_steps": 0})
    config.evaluation.pool = 32
  elif mode == "shared":
    config.evaluation.method = "shared_weights"
    # RCAS scores networks of all sizes, so shared weights are trained on all sizes.
    config.evaluation.update({"statistics_images": 640, "least_share": 0.0})
    config.evaluation.store.epochs = 25.0
    config.train.update({"epochs": 1.0, "milestones": (0.4, 0.7, 0.9)})
    config.search.update({"finalists": 2, "finalist_replicates": 2})
  elif mode:
    raise ValueError(f'unknown mode {mode!r}; allowed: "smoke", "shared" or none')
  return config
