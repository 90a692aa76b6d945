"""The type of a recipe: every hyper-parameter of a run, legal or refused in words.

What each published recipe says is in the files beside this one; what the parameters do is in `training.build`,
`training.batches` and `training.fit`.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cifar10_serving.artifacts.labels import TRANSFER_MODELS, ModelName

RecipeName = Literal["tutorial", "tuned", "distilled"]
InputScaling = Literal["divide_by_255", "minus_one_to_one", "standardize", "bgr_minus_imagenet_mean"]
"""What each does to the pixels: `training.preprocessing`."""
NORMALIZED: Final[tuple[ModelName, ...]] = ("mobilenetv2", "resnet50v2")
"""Those whose backbone has BatchNormalization."""
HELD_OUT_FRACTION: Final = 0.1
"""Share of the training images that a held-out run validates on: 5,000 of 50,000."""
IMAGENET = "imagenet"
NO_WEIGHTS = "none"


class Augmentation(BaseModel):
    """Random changes of each training image, drawn anew in every epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_padding_pixels: int = Field(default=0, ge=0, le=16)
    """Pad every side by its mirror image, then cut 32x32 out at a random place."""
    flip: bool = False
    """Mirror left and right, every other image."""
    cutout_pixels: int = Field(default=0, ge=0, le=32)
    """Grey out a square of this side at a random place (DeVries and Taylor 2017, arXiv:1708.04552)."""
    contrast_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the images whose contrast is lowered about each channel's mean."""
    contrast_lowest: float = Field(default=1.0, gt=0, le=1)
    """The contrast left is drawn between this and 1, its logarithm evenly."""
    noise_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the images that Gaussian noise is added to."""
    noise_deviation: float = Field(default=0.0, ge=0, le=1)
    """The noise's deviation is drawn between 0 and this, where white is 1."""


class Distillation(BaseModel):
    """Training on the answers of larger published models instead of on the labels (arXiv:1503.02531).

    The teachers answer once for a few changed copies, "views", of each image; an epoch trains on one view of all
    images, changed once more as the recipe's own augmentation says. The files are `training.distillation`'s part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: tuple[Annotated[str, Field(pattern=r"^[a-z0-9]+/[1-9][0-9]*$")], ...] = Field(min_length=1)
    """`name/version` of each; the student learns the mean of their probabilities."""
    views: int = Field(ge=1)
    """Views of each image; the epochs take them in turn."""
    augmentation: Augmentation
    """The changes that make an image a view."""
    cutmix_share: float = Field(ge=0, le=1)
    """Share of a view's images into which a rectangle of another is pasted (CutMix, arXiv:1905.04899); the teacher says
    what such a picture shows (arXiv:2012.02909)."""
    seed: int = Field(ge=0, lt=2**32)
    """Seed of the views, the same for all students that share the answers."""


class Recipe(BaseModel):
    """Every hyper-parameter of a run; what is not here is Keras' default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RecipeName
    model: ModelName
    smoke: bool = False
    """Cut down to try whether the run works at all; its results mean nothing."""

    backbone_weights: str | None = None
    """Of a transfer model: `imagenet` (Keras' own, downloaded once), `none` (drawn from the seed), or the path of
    a weights file that Keras saved of such a backbone. The small CNNs have no backbone."""
    trainable_layers: Literal["all", "head"] | tuple[str, ...] = "all"
    """`head` freezes the backbone; names free only those of its layers that begin with one of them, and the head."""
    frozen_features: Literal["computed_once", "computed_every_step"] = "computed_once"
    """Whether a frozen backbone's outputs are kept (training.features); the result is the same."""
    upsample_to: int | None = Field(default=None, ge=32, le=224)
    """Side in pixels to which the graph of a transfer model enlarges the images."""
    batch_normalization: Literal["keras", "folded"] = "keras"
    """`folded`: a network that has none is normalized after each convolution (training.batch_normalization), the small
    CNN after its hidden dense layer too, which is folded into the weights in the end: what is exported is the plain
    network."""
    layers: Literal["keras", "fast"] = "keras"
    """`fast`: a backbone of layers that compute the same in less time (training.fast_layers), in training alone."""
    initialization: Literal["keras", "he_normal"] = "keras"
    """`keras`: Glorot uniform. `he_normal` suits deep stacks of ReLU without normalisation (arXiv:1502.01852)."""

    input_scaling: InputScaling
    augmentation: Augmentation | None = None
    distillation: Distillation | None = None
    """Teachers, whose answers replace the labels as targets; None trains on the labels."""
    validation_fraction: float = Field(ge=0, lt=1)
    """0 trains on all images and leaves no validation part: for the last run, when every choice is made."""
    split_seed: int
    data_order: Literal["reshuffled_each_epoch", "one_order_repeated"] = "reshuffled_each_epoch"
    """Keras 2 drew a new order in every epoch; Keras 3's `fit` on arrays repeats one. See docs/training.md."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(gt=0)
    """Where the schedule is not constant: its highest value."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` falls from the learning rate to 0 over the run, after the warm-up."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """The learning rate rises from 0 over so many epochs; only with a schedule."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Nesterov momentum of `sgd`."""
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    """Share of each kernel that a step takes away, times the learning rate (decoupled, arXiv:1711.05101)."""
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy"] = "sparse_categorical_crossentropy"
    temperature: float = Field(default=1.0, ge=0.1, le=10)
    """The exported graph divides the logits by it, which calibrates confidence and changes no class; found on images
    that were held out by `python -m training temperature`."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the label's probability that is spread over all classes; needs `categorical_crossentropy`."""

    seed: int = Field(ge=0, lt=2**32)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """`mixed_bfloat16` computes in bfloat16 and keeps the weights in float32; what is exported is float32."""
    jit_compile: bool
    """XLA. Keras 3 turns it on by itself; Keras 2, which the tutorial ran on, did not. On JAX it is always on."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for wrong, reason in (*self._wrong_for_the_model(), *self._wrong_for_the_training()):
            if wrong:
                raise ValueError(reason)
        return self

    def _wrong_for_the_model(self) -> list[tuple[bool, str]]:
        transfer = self.model in TRANSFER_MODELS
        folded = self.batch_normalization == "folded"
        return [
            (
                transfer != (self.backbone_weights is not None),
                "backbone_weights: given for a model with a backbone, and for no other",
            ),
            (
                not transfer and (self.trainable_layers != "all" or self.upsample_to is not None),
                "trainable_layers, upsample_to: only for a model with a backbone",
            ),
            (
                self.layers == "fast" and self.model not in NORMALIZED,
                "layers fast: only for a backbone with BatchNormalization",
            ),
            (
                folded and self.model in NORMALIZED,
                "batch_normalization folded: only for a network without BatchNormalization",
            ),
            (
                folded and self.backbone_weights not in (None, NO_WEIGHTS),
                "batch_normalization folded: the backbone's weights are none",
            ),
            (folded and self.trainable_layers != "all", "batch_normalization folded: all layers train"),
        ]

    def _wrong_for_the_training(self) -> list[tuple[bool, str]]:
        soft = self.loss == "categorical_crossentropy"
        distilled = self.distillation is not None
        return [
            (self.label_smoothing > 0 and not soft, "label_smoothing: needs the loss categorical_crossentropy"),
            (self.warmup_epochs > 0 and self.schedule == "constant", "warmup_epochs: needs a schedule"),
            (self.weight_decay > 0 and self.optimizer == "adam", "weight_decay: needs adamw or sgd"),
            (self.momentum > 0 and self.optimizer != "sgd", "momentum: needs sgd"),
            (distilled and not soft, "distillation: needs the loss categorical_crossentropy"),
            (distilled and self.label_smoothing > 0, "distillation: goes without label_smoothing"),
            (distilled and self.trainable_layers == "head", "distillation: goes without a frozen backbone"),
            (
                distilled and self.validation_fraction not in (0, HELD_OUT_FRACTION),
                f"distillation: needs a validation_fraction of 0 or {HELD_OUT_FRACTION}",
            ),
        ]

    @property
    def computes_features_once(self) -> bool:
        """Whether the head is trained on kept outputs of the backbone: it is frozen, and sees the same images."""
        return (
            self.trainable_layers == "head"
            and self.frozen_features == "computed_once"
            and self.augmentation is None
            and self.model in TRANSFER_MODELS
        )

    @property
    def backbone_file(self) -> Path | None:
        """The weights file that the backbone begins with, if the recipe names one."""
        if self.backbone_weights in (None, IMAGENET, NO_WEIGHTS):
            return None
        return Path(self.backbone_weights)

    def published(self) -> dict[str, Any]:
        """The recipe as metadata shows it: of a weights file the name alone, not where it lies on this machine."""
        fields = self.model_dump(mode="json")
        if self.backbone_file is not None:
            fields["backbone_weights"] = self.backbone_file.name
        return fields
