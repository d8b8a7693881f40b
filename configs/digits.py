"""RCAS on 8x8 digits: the default experiment, minutes on two CPU cores.

Claim: within 12,000 parameters and 150,000 multiply-adds, the search finds a network with less than
half the validation loss of the start network. The value of one set varies between seeds by about
half of the mean gain of the first three blocks.
Expected: the validation loss of the start network is 0.49 (docs/study.md), that of an answer 0.13
to 0.19 (docs/benchmarks.md).
Command: python -m experiments.search --config=configs/digits.py --workdir=runs/digits
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from nas_submod.resources import budgets


def get_config(mode: str = "") -> ConfigDict:
  """The config.

  Mode "smoke" checks in a minute that everything works. Mode "device" has the limits of a small
  device, counted as in the files of experiments.export; add a latency table by flags:
  --config.resources.latency=runs/latency.csv --config.budget.latency_ms=0.05
  """
  config = ConfigDict()
  config.seed = 0
  # A known space and fields that override it; see nas_submod/networks/spaces.py.
  config.space = {
    "name": "digits",
    "image_shape": placeholder(tuple),  # unset: that of the known space
    "classes": placeholder(int),
    "start": placeholder(str),  # the network that every other one contains
  }
  config.data = {
    "source": "digits",
    "validation_size": 500,
    "train_size": placeholder(int),  # unset: all remaining images
    "test_size": placeholder(int),  # unset: the test set of the source
    "classes": placeholder(int),  # unset: as many as the labels have
    "image_size": placeholder(int),  # unset: the size of the source
    "data_dir": placeholder(str),  # unset: the default folder of TFDS
    "stream": False,  # whether a final training reads its images while it runs
    "split_seed": 0,
  }
  # How resources are counted; docs/searching.md has the definitions. Another field is a resource of
  # your own, such as config.resources.mine = "my_costs:energy", which config.budget may limit.
  config.resources = {
    "params": "learned",  # learned numbers; or "folded", with batch norm in the convolutions
    "flash": "int8",  # bytes of the weights in an exported file; or "float32"
    "memory": "int8",  # peak bytes of activations; or "float32", or "tflite_micro" with its copies
    "latency": placeholder(str),  # a table of milliseconds, "PATH" or "PATH:DEVICE"
  }
  # Any of params, madds (multiply-adds of the convolutions for one image), flash, memory and
  # latency_ms, and resources of your own. Fractions are allowed.
  config.budget = budgets(params=12e3, madds=150e3)
  # With --pareto: a search within each of these budgets, or shares of the budget.
  config.front = (0.25, 0.5, 1.0)
  # "negative_loss" or "accuracy" on the validation split, or "negative_train_loss" over all steps.
  config.score = "negative_loss"
  config.search = {
    "optimizer": "rcas",  # or another name (docs/optimizers.md), or module:function
    # Arguments of the optimizer: {"race": (1, 3, 6)} replicates close contenders. exchange and
    # partial_enumeration also take {"inner": "greedy", ...}.
    "options": {},
    "max_evaluations": 0,  # largest number of measured sets; 0: no limit
    "replicates": 1,  # trainings averaged into one value
    "finalists": 4,
    "finalist_replicates": 4,  # fresh seeds that decide among the finalists
    # Networks by name or line, trained like finalists, to compare the answer with.
    "references": (),
    # Seconds, without compiling, after which a training fails; 0: none. Which ones fail depends on
    # the machine. With several devices, it limits a round of trainings.
    "time_limit": 0.0,
  }
  # The short training of a candidate.
  config.train = {
    "steps": 900,  # exactly one of steps and epochs, the other 0
    "epochs": 0.0,
    "batch_size": 32,
    "learning_rate": 0.05,
    "schedule": "cosine",
    "milestones": (),  # drops of "multistep", in steps or epochs like the duration
    "decay": 0.1,
    "warmup_steps": 0,
    "momentum": 0.9,
    "weight_decay": 4e-5,
    "label_smoothing": 0.0,
    "crop_padding": 2,
    "flip": False,
    # Steps in one call of the program; progress and the time limit are checked between calls.
    "steps_per_call": 1_000,
    "dtype": "float32",  # or bfloat16, for everything between images and logits
  }
  # How a network gets its value: "training", or "shared_weights": its score with weights that all
  # networks share. These are trained once, before the search; finalists are always trained. The
  # optimizer surrogate may take the scores as features instead, see docs/searching.md.
  config.evaluation = {
    "method": "training",
    # How shared weights are trained. Fields unset or missing here are as in config.train.
    "store": {
      "steps": 16_000,  # of all networks together; exactly one of steps and epochs
      "epochs": 0.0,
      "batch_size": placeholder(int),
      "learning_rate": placeholder(float),
      "schedule": "cosine",
      "warmup_steps": 800,
      "clip_norm": 1.0,
      "steps_per_call": 160,
      "checkpoint_every": 1_600,  # steps
    },
    "least_share": 0.5,  # sampled networks fill from this share of the budgets to all
    "stores": 1,  # their scores are averaged
    "statistics_images": 896,  # training images that batch norm is estimated on for a score
    "pool": 512,  # networks that are scored for surrogate to choose from
  }
  # The training of the network that was found.
  recipe = {name: value for name, value in config.train.items() if name != "steps_per_call"}
  config.final = recipe | {
    "steps": 0,
    "epochs": 100.0,
    "batch_size": 64,
    "learning_rate": 0.1,
    "crop_padding": 1,
    "decay_kernels": False,  # True: weight decay of kernels only
    "clip_norm": 0.0,  # largest norm of the gradient; 0: off
    "mixup": 0.0,  # alpha; 0: off
    "average": 0.0,  # decay of a moving average of the parameters; 0: off
    "dtype": "float32",  # or bfloat16, for everything between images and logits
    "from_shared_weights": False,  # whether it starts from the shared weights of the search
    "evaluate_on": "test",  # trains on train + validation; "validation" trains on train only
    "log_every": 20,  # steps
    "checkpoint_every": 10.0,  # steps or epochs, like the duration
    "keep_checkpoints": 2,  # the latest ones, and the best
  }
  if mode == "smoke":
    config.budget = budgets(params=9e3, madds=60e3)
    config.train.steps = 5
    config.evaluation.store.update({"steps": 32, "warmup_steps": 0})
    config.evaluation.pool = 32
    config.final.epochs = 1.0
    config.search.finalists = 2
    config.search.finalist_replicates = 2
  elif mode == "device":
    config.resources.update({"params": "folded", "memory": "tflite_micro"})
    config.budget = budgets(params=10e3, madds=150e3, flash=12e3, memory=3_000)
  elif mode:
    raise ValueError(f'unknown mode {mode!r}; allowed: "smoke", "device" or none')
  return config


def sweep() -> list[dict[str, object]]:
  """Five seeds of RCAS, and of random search with more evaluations than RCAS needs."""
  random_search = {
    "search.optimizer": "random_search",
    "search.max_evaluations": 70,
  }
  return [{"seed": seed, **options} for seed in range(5) for options in ({}, random_search)]
