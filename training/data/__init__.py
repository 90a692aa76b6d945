"""Data sets to train on and to evaluate with: the type, and CIFAR-10. `pictures` loads folders, and needs Pillow."""

from training.data.cifar10 import CIFAR_DIMENSIONS, cifar10_dataset, is_cifar10, load_cifar10
from training.data.dataset import Dataset, Dimensions, Labels, Split, StoredImages, blocks, split_rows, split_validation

__all__ = [
    "CIFAR_DIMENSIONS",
    "Dataset",
    "Dimensions",
    "Labels",
    "Split",
    "StoredImages",
    "blocks",
    "cifar10_dataset",
    "is_cifar10",
    "load_cifar10",
    "split_rows",
    "split_validation",
]
