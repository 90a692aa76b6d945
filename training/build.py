"""Build a recipe's model, ready to train: initial weights, frozen layers, optimizer and loss.

`training.architectures` defines the layers, `training.fit` trains the model.
"""

import hashlib
import warnings
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from cifar10_serving.text import did_you_mean
from training.architectures import ARCHITECTURES
from training.architectures.small_cnn import NORMALIZED, PLAIN
from training.architectures.transfer import BACKBONE_LAYER, BACKBONES, ChangeBackbone, backbone_of
from training.backend import compiles
from training.batch_normalization import NormalizedConv2D, NormalizedDense, after_convolutions, fold
from training.data.dataset import Dimensions
from training.errors import ArchitectureError, BackboneWeightsError, RecipeError
from training.fast_layers import with_fast_layers
from training.own_architectures import find
from training.recipes import Recipe
from training.recipes.recipe import IMAGENET

PROBABILITY_SUM_TOLERANCE: Final = 1e-2
"""Of a network in bfloat16."""


def build(recipe: Recipe, dimensions: Dimensions) -> Any:
    """Build the recipe's model, not compiled: weights drawn from the recipe's seed, then the backbone's weights loaded.

    Raises:
        BackboneWeightsError: the backbone's weights can't be loaded, or belong to another network.
        RecipeError: the recipe unfreezes a layer that the backbone doesn't have.
    """
    model = _new_model(recipe, dimensions, recipe.precision, for_training=True)
    if recipe.initialization == "he_normal":
        _draw_he_normal(model)
    if recipe.model in BACKBONES:
        _load_backbone_weights(model, recipe)
        _freeze(model, recipe)
    return model


def compile_for_training(model: Any, recipe: Recipe, *, train_n: int) -> None:
    """Set the recipe's optimizer, loss and metric.

    Args:
        train_n: images per epoch, for the learning rate schedule.
    """
    model.compile(
        optimizer=_optimizer(recipe, train_n),
        loss=_loss(recipe),
        metrics=["accuracy"],
        jit_compile=compiles(recipe),
    )


def to_export(model: Any, recipe: Recipe, dimensions: Dimensions) -> Any:
    """Convert a trained model for export: float32, without the layers that exist only for training.

    Returns the model itself if there is nothing to convert.
    """
    folded = recipe.batch_normalization == "folded"
    if recipe.precision == "float32" and not folded and recipe.layers == "keras":
        return model
    copy = exported_network(recipe, dimensions)
    for original, copied in zip(model.layers, copy.layers, strict=True):
        copied.trainable = original.trainable
        if isinstance(original, NormalizedConv2D | NormalizedDense):
            copied.set_weights(original.folded_weights())
            continue
        if folded and copied.name == BACKBONE_LAYER:
            fold(original, copied)
            continue
        copied.set_weights(original.get_weights())
        for original_part, copied_part in zip(_parts(original), _parts(copied), strict=True):
            copied_part.trainable = original_part.trainable
    return copy


def exported_network(recipe: Recipe, dimensions: Dimensions) -> Any:
    """Build the network that a recipe exports: float32, with Keras' own layers and arbitrary weights."""
    return _new_model(recipe, dimensions, "float32", for_training=False)


def weights_sha256(model: Any) -> str:
    """Return the SHA-256 of all weights of a model, in the model's order."""
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()


def _parts(layer: Any) -> list[Any]:
    return layer.layers if isinstance(layer, keras.Model) else []


def _options(recipe: Recipe, *, for_training: bool) -> dict[str, Any]:
    """Return the options of an architecture: different layers for training if the recipe asks for them."""
    folded = for_training and recipe.batch_normalization == "folded"
    if recipe.model not in BACKBONES:
        return {"parts": NORMALIZED if folded else PLAIN}
    change: ChangeBackbone | None = with_fast_layers if for_training and recipe.layers == "fast" else None
    return {"upsample_to": recipe.upsample_to, "change_backbone": after_convolutions if folded else change}


def _own_model(recipe: Recipe, dimensions: Dimensions) -> Any:
    """Build an architecture beside the six, and check that it classifies the images.

    Raises:
        ArchitectureError: it doesn't.
    """
    own = find(recipe.model)
    if own is None:
        raise ArchitectureError(f"no architecture {recipe.model}", remedy="name its file with --architecture")
    expected = f"a keras.Model from {dimensions.input_shape} to probabilities of {dimensions.class_count} classes"
    try:
        model = own.build(dimensions.input_shape, dimensions.class_count)
        zeros = np.zeros((1, *dimensions.input_shape), np.float32)
        answers = np.asarray(model(zeros, training=False), np.float32) if isinstance(model, keras.Model) else None
    except Exception as error:  # noqa: BLE001  # the user's own code
        raise ArchitectureError(
            f"building {own.name} raises {type(error).__name__}: {_first_line(error)}", expected=expected
        ) from None
    if answers is None:
        raise ArchitectureError(f"{own.name} returns {type(model).__name__}", expected=expected)
    if answers.shape != (1, dimensions.class_count):
        raise ArchitectureError(f"{own.name} answers {answers.shape} for one image", expected=expected)
    if not (answers.min() >= 0 and abs(answers.sum() - 1) <= PROBABILITY_SUM_TOLERANCE):
        raise ArchitectureError(
            f"the answers of {own.name} are no probabilities: they sum up to {answers.sum():.3g}",
            expected=expected,
            remedy="end the network with a Dense layer with the activation softmax and the dtype float32",
        )
    return model


def _new_model(recipe: Recipe, dimensions: Dimensions, precision: str, *, for_training: bool) -> Any:
    keras.utils.set_random_seed(recipe.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        if recipe.model not in ARCHITECTURES:
            return _own_model(recipe, dimensions)
        return ARCHITECTURES[recipe.model](dimensions, **_options(recipe, for_training=for_training))
    finally:
        keras.config.set_dtype_policy(before)


def _optimizer(recipe: Recipe, train_n: int) -> Any:
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        steps_per_epoch = -(-train_n // recipe.batch_size)
        warmup_steps = round(recipe.warmup_epochs * steps_per_epoch)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else recipe.learning_rate,
            max(recipe.epochs * steps_per_epoch - warmup_steps, 1),
            warmup_target=recipe.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    config: dict[str, Any] = {"learning_rate": rate}
    if recipe.weight_decay:
        config["weight_decay"] = recipe.weight_decay
    if recipe.optimizer == "sgd":
        config |= {"momentum": recipe.momentum, "nesterov": recipe.momentum > 0}
    classes = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    optimizer = classes[recipe.optimizer](**config)
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _loss(recipe: Recipe) -> Any:
    if recipe.loss == "categorical_crossentropy":
        return keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    return recipe.loss


def _draw_he_normal(model: Any) -> None:
    """Redraw every kernel except the last with variance 2 / fan-in, which preserves the signal through ReLU layers."""
    *kernels, _classifier = [weights for weights in model.trainable_variables if weights.name == "kernel"]
    for kernel in kernels:
        kernel.assign(keras.initializers.HeNormal(seed=keras.random.SeedGenerator())(kernel.shape))


def _load_backbone_weights(model: Any, recipe: Recipe) -> None:
    backbone = backbone_of(model)
    if recipe.backbone_weights == IMAGENET:
        backbone.set_weights(_imagenet_weights(recipe))
    elif recipe.backbone_file is not None:
        _load_file(backbone, recipe.backbone_file, recipe)
    if not all(np.isfinite(weights).all() for weights in backbone.get_weights()):
        raise BackboneWeightsError(
            f"{recipe.backbone_weights} has weights that are not finite numbers",
            expected="finite weights",
            remedy="use another weights file",
        )


def _imagenet_weights(recipe: Recipe) -> list[Any]:
    new_backbone = BACKBONES[recipe.model]
    try:
        pretrained = new_backbone(include_top=False, weights=IMAGENET, input_shape=(224, 224, 3))
    except Exception as error:  # noqa: BLE001  # Keras raises a bare Exception when the download fails
        raise BackboneWeightsError(
            f"Keras could not load {new_backbone.__name__}'s ImageNet weights: {error}",
            expected="network access to Keras' weights, or a cached copy in ~/.keras/models",
            remedy="copy the file from another machine and pass it with --backbone-weights FILE",
        ) from None
    weights: list[Any] = pretrained.get_weights()
    return weights


def _load_file(backbone: Any, file: Path, recipe: Recipe) -> None:
    name = BACKBONES[recipe.model].__name__
    if not file.is_file():
        raise BackboneWeightsError(
            f"no file {file}", expected=f"weights of {name} without its top, saved by Keras (.weights.h5 or .h5)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # if a file doesn't fit, Keras warns for each layer, then raises
            backbone.load_weights(file)
    except Exception as error:  # noqa: BLE001  # Keras and h5py raise many types; the remedy is the same
        raise BackboneWeightsError(
            f"{file} can't be loaded into {name}: {_first_line(error)}",
            expected=f"weights of keras.applications.{name} without its top (.weights.h5, or Keras' own .h5)",
            remedy=f"save them with keras.applications.{name}(include_top=False, …).save_weights('FILE.weights.h5')",
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(" .:") if str(error) else type(error).__name__


def _freeze(model: Any, recipe: Recipe) -> None:
    backbone = backbone_of(model)
    if recipe.trainable_layers == "head":
        backbone.trainable = False
        return
    if recipe.trainable_layers == "all":
        return
    names = [layer.name for layer in backbone.layers]
    for wanted in recipe.trainable_layers:
        if not any(name.startswith(wanted) for name in names):
            raise RecipeError(
                f"no layer of {BACKBONES[recipe.model].__name__} begins with '{wanted}'{did_you_mean(wanted, names)}",
                expected="a prefix of a layer's name, as shown by python -m training summary",
            )
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith(tuple(recipe.trainable_layers))
