"""MLServer serves a published version as it stands: `mlserver start docs/examples/mlserver`, on port 8080.

Needs `pip install mlserver tensorflow`; bench/alternatives/mlserver/requirements.txt has versions that go together.
model-settings.json names this class and the version's folder. Requests are those of docs/protocols.md.
"""

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class Cifar10Runtime(MLModel):
    """Input `images`: UINT8 (n, 32, 32, 3); or `image_bytes`: BYTES (n), base64 of PNG or JPEG files."""

    async def load(self) -> bool:
        """Read the SavedModel."""
        self.saved_model = tf.saved_model.load(await get_model_uri(self._settings))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """`probabilities`: FP32 (n, 10)."""
        (given,) = payload.inputs
        signatures = self.saved_model.signatures
        if given.name == "images":
            found = signatures["serving_default"](images=tf.constant(NumpyCodec.decode_input(given)))
        else:
            found = signatures["encoded_images"](image_bytes=tf.constant(Base64Codec.decode_input(given)))
        output = NumpyCodec.encode_output("probabilities", found["probabilities"].numpy())
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=[output])
