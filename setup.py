"""Installs nas-submod."""

import pathlib

from setuptools import find_packages, setup

README = pathlib.Path(__file__).parent / "README.md"

# Writers and runtimes of exported networks; nothing else imports them.
EXPORT = ["flatbuffers>=25.12", "onnx>=1.23", "onnxruntime>=1.32"]
TFLITE = [
  "ai-edge-litert>=2.3",
  "ai-edge-quantizer>=0.10",
  "flatbuffers>=25.12",
  # It has wheels for this platform alone, and development versions only.
  "tflite-micro>=0.dev20261023; sys_platform == 'linux' and platform_machine == 'x86_64'",
]

setup(
  name="nas-submod",
  version="0.1.0",
  description="Neural architecture search as the maximisation of a set function under budgets",
  long_description=README.read_text(encoding="utf-8") if README.exists() else "",
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  packages=find_packages(
    include=["nas_submod", "nas_submod.*", "experiments", "experiments.*", "configs", "configs.*"]
  ),
  python_requires=">=3.11,<3.14",
  install_requires=[
    "absl-py>=2.3",
    "array_record>=0.8",
    "chex>=0.1.91",
    "flax>=0.12",
    "grain>=0.2.18",
    # tensorflow-datasets imports importlib_resources without declaring it.
    "importlib_resources>=6.5",
    "jax>=0.10,<0.13",
    "matplotlib>=3.10",
    "ml-collections>=1.1",
    "numpy>=2.2",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.30",
    "pillow>=11",
    "rich>=14",
    "scikit-learn>=1.7",
    "scipy>=1.15",
    "tensorboardX>=2.6.2",
    # Older versions fail with the protobuf that other packages need.
    "tensorflow-datasets>=4.9.10",
  ],
  extras_require={
    "test": [
      "hypothesis>=6.140",
      "mypy>=2",
      "pytest>=9",
      "pytest-xdist>=3.8",
      "ruff>=0.17,<0.18",
      *EXPORT,
      *TFLITE,
    ],
    "export": EXPORT,
    "tflite": TFLITE,
    "benchmarks": ["optuna>=5"],
    "tpu": ["gcsfs>=2026.4", "jax[tpu]"],  # gcsfs: for compiled programs in a bucket
    "cuda": ["jax[cuda12]"],
    "tfds": ["tensorflow>=2.20"],
  },
  classifiers=[
    "Development Status :: 4 - Beta",
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)
