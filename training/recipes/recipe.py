"""The type of a recipe: every hyper-parameter of a run, validated with clear messages.

The published recipes are in the files beside this one. `training.build`, `training.batches` and `training.fit` apply
the parameters.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.cifar10 import MODEL_NAMES, TRANSFER_MODELS
from training.own_architectures import registered

InputScaling = Literal[
    "unscaled", "divide_by_255", "minus_one_to_one", "imagenet", "bgr_minus_imagenet_mean", "standardize"
]
"""`training.preprocessing` defines them."""
NORMALIZED: Final[tuple[str, ...]] = ("mobilenetv2", "resnet50v2")
"""Models whose backbone has BatchNormalization."""
HELD_OUT_FRACTION: Final = 0.1
"""Share of the training images that a held-out run validates on: 5,000 of 50,000."""
ONLY_IF_SET: Final = ("architecture_sha256", "changed")
IMAGENET = "imagenet"
NO_WEIGHTS = "none"


class Augmentation(BaseModel):
    """Random changes of each training image, redrawn in every epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_padding_pixels: int = Field(default=0, ge=0, le=512)
    """Reflection-pad every side, then crop the image's size at a random position."""
    flip: bool = False
    """Flip each image horizontally with a probability of 1/2."""
    cutout_pixels: int = Field(default=0, ge=0, le=1024)
    """Grey out a square of this side at a random position (DeVries and Taylor 2017, arXiv:1708.04552)."""
    contrast_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the images whose contrast is reduced around each channel's mean."""
    contrast_lowest: float = Field(default=1.0, gt=0, le=1)
    """The remaining contrast is drawn log-uniformly between this and 1."""
    noise_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the images to which Gaussian noise is added."""
    noise_deviation: float = Field(default=0.0, ge=0, le=1)
    """The noise's standard deviation is drawn uniformly between 0 and this; white is 1."""


class Distillation(BaseModel):
    """Training on the answers of larger published models instead of on the labels (arXiv:1503.02531).

    The teachers answer once for a few augmented copies ("views") of each image. An epoch trains on one view of all
    images, augmented again by the recipe's own augmentation. `training.distillation` caches the answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*/[1-9][0-9]*$")], ...] = Field(min_length=1)
    """`name/version` of each; the student learns the mean of their probabilities."""
    views: int = Field(ge=1)
    """Views of each image; epochs cycle through them."""
    augmentation: Augmentation
    """Turns an image into a view."""
    cutmix_share: float = Field(ge=0, le=1)
    """Share of a view's images with a rectangle of another image pasted in (CutMix, arXiv:1905.04899); the teacher
    labels the mixed image (arXiv:2012.02909)."""
    seed: int = Field(ge=0, lt=2**32)
    """Seed of the views, the same for all students that share the answers."""


class Recipe(BaseModel):
    """Every hyper-parameter of a run; anything else is Keras' default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    """Name of an architecture: one of `training.architectures.ARCHITECTURES` or of `training.own_architectures`."""
    architecture_sha256: str | None = None
    """SHA-256 of the file with an own architecture that the command line named."""
    smoke: bool = False
    """A short test run, whose results are meaningless."""
    changed: tuple[str, ...] = ()
    """Names of the fields that options or the image size changed, compared with the recipe of this name."""

    backbone_weights: str | None = None
    """Initial weights of a transfer model's backbone: `imagenet` (Keras' own, downloaded once), `none` (drawn from the
    seed), or the path of a weights file saved by Keras. None for the small CNNs, which have no backbone."""
    trainable_layers: Literal["all", "head"] | tuple[str, ...] = "all"
    """`head` freezes the backbone. Name prefixes unfreeze only the backbone's layers that match one, and the head."""
    frozen_features: Literal["computed_once", "computed_every_step"] = "computed_once"
    """Caching of a frozen backbone's outputs (training.features); the result is the same."""
    upsample_to: int | None = Field(default=None, ge=32, le=1024)
    """Side in pixels to which the graph of a transfer model enlarges the images."""
    batch_normalization: Literal["keras", "folded"] = "keras"
    """`folded`: train with batch normalization after each convolution, and after the small CNN's hidden dense layer
    (training.batch_normalization), then fold it into the weights. The exported network is the plain one."""
    layers: Literal["keras", "fast"] = "keras"
    """`fast`: train a backbone with equivalent, faster layers (training.fast_layers)."""
    initialization: Literal["keras", "he_normal"] = "keras"
    """`keras`: Glorot uniform. `he_normal` suits deep stacks of ReLU without normalization (arXiv:1502.01852)."""

    input_scaling: InputScaling
    augmentation: Augmentation | None = None
    distillation: Distillation | None = None
    """Teachers whose answers replace the labels as targets; None trains on the labels."""
    validation_fraction: float = Field(ge=0, lt=1)
    """0 trains on all images, without validation: for the final run, after all choices have been made."""
    split_seed: int
    data_order: Literal["reshuffled_each_epoch", "one_order_repeated"] = "reshuffled_each_epoch"
    """Keras 2 drew a new order in every epoch; Keras 3's `fit` on arrays repeats the first. See docs/training.md."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(gt=0)
    """The peak value, if the schedule is not constant."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` decays from the learning rate to 0 over the run, after the warm-up."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """The learning rate rises from 0 over this many epochs; only with a schedule."""
    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Nesterov momentum of `sgd`."""
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    """Decoupled weight decay of kernels, scaled by the learning rate (arXiv:1711.05101)."""
    loss: Literal["sparse_categorical_crossentropy", "categorical_crossentropy"] = "sparse_categorical_crossentropy"
    temperature: float = Field(default=1.0, ge=0.1, le=10)
    """The exported graph divides the logits by it, which calibrates confidence and changes no predicted class. Found on
    held-out images by `python -m training temperature`."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the label's probability that is spread over all classes; needs `categorical_crossentropy`."""

    seed: int = Field(ge=0, lt=2**32)
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """`mixed_bfloat16` computes in bfloat16 with float32 weights; the export is float32."""
    jit_compile: bool
    """XLA. On by default in Keras 3, off in Keras 2, which the tutorial used. Always on with JAX."""

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
                self.model not in MODEL_NAMES and registered(self.model) is None,
                f"model: must be one of {', '.join(MODEL_NAMES)}",
            ),
            (
                transfer != (self.backbone_weights is not None),
                "backbone_weights: required for a model with a backbone, not allowed for any other",
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
                folded and (self.model in NORMALIZED or self.model not in MODEL_NAMES),
                "batch_normalization folded: only for one of the six networks, without BatchNormalization",
            ),
            (
                folded and self.backbone_weights not in (None, NO_WEIGHTS),
                "batch_normalization folded: backbone_weights must be none",
            ),
            (folded and self.trainable_layers != "all", "batch_normalization folded: trainable_layers must be all"),
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
            (distilled and self.label_smoothing > 0, "distillation: not with label_smoothing"),
            (distilled and self.trainable_layers == "head", "distillation: not with a frozen backbone"),
            (
                distilled and self.validation_fraction not in (0, HELD_OUT_FRACTION),
                f"distillation: needs a validation_fraction of 0 or {HELD_OUT_FRACTION}",
            ),
        ]

    @property
    def computes_features_once(self) -> bool:
        """True if the head trains on cached features: the backbone is frozen and the images aren't augmented."""
        return (
            self.trainable_layers == "head"
            and self.frozen_features == "computed_once"
            and self.augmentation is None
            and self.model in TRANSFER_MODELS
        )

    @property
    def backbone_file(self) -> Path | None:
        """The file with the backbone's initial weights, if the recipe names one."""
        if self.backbone_weights in (None, IMAGENET, NO_WEIGHTS):
            return None
        return Path(self.backbone_weights)

    def published(self) -> dict[str, Any]:
        """Return the recipe for the metadata: only the name of a weights file, not its path on this machine.

        Fields that few recipes set are left out where they are not set.
        """
        fields = self.model_dump(mode="json")
        for name in ONLY_IF_SET:
            if not fields[name]:
                del fields[name]
        if self.backbone_file is not None:
            fields["backbone_weights"] = self.backbone_file.name
        return fields
