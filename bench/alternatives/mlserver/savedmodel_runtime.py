"""MLServer: a custom runtime for encoded images, with adaptive batching.

`bench.alternatives.mlserver.repository` writes the settings that select it.
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.alternatives.saved_model import decode, load_saved_model


# https://docs.seldon.ai/mlserver/user-guide/custom: a class with `load` and `predict`.
class SavedModelRuntime(MLModel):  # type: ignore[misc]
    """The SavedModel's signature; input `image`: BYTES, any number of base64-encoded image files."""

    async def load(self) -> bool:
        """Load the model, once in each worker."""
        self.model = load_saved_model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the probabilities (n, 10) of n images; MLServer splits them among the requests of the batch."""
        # https://docs.seldon.ai/mlserver/user-guide/content-type: "Base64" is the codec for raw bytes.
        encoded = Base64Codec.decode_input(payload.inputs[0])
        probabilities = self.model.predict(np.stack([decode(content) for content in encoded]))
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", probabilities)]
        )
