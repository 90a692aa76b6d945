"""A `catalog.responses.Prediction` written as JSON straight from the probabilities: the hot path's last step.

Field by field what pydantic would write, in a tenth of its time; a test holds the two together.
"""

import json
from typing import Final

import numpy as np
from numpy.typing import NDArray

from catalog.labels import CLASS_NAMES

LABELS: Final = [json.dumps(name) for name in CLASS_NAMES]
CLASSES: Final = range(len(CLASS_NAMES))


def encode_prediction(model: str, version: int, probabilities: NDArray[np.float32], top_k: int) -> bytes:
    """The answer for one image; ties go to the lower class number.

    Args:
        model: one of the catalog's names, which need no escapes in JSON.
        version: its number.
        probabilities: (10,) float32; what rounding took past 0 or 1 is put back.
        top_k: how many classes, 1 to 10.
    """
    values: list[float] = probabilities.tolist()
    best = sorted(CLASSES, key=values.__getitem__, reverse=True)[:top_k]
    within = [min(1.0, max(0.0, values[index])) for index in best]
    top = ",".join(
        f'{{"label":{LABELS[index]},"class_id":{index},"probability":{value!r}}}'
        for index, value in zip(best, within, strict=True)
    )
    return (
        f'{{"model":"{model}","version":{version},"label":{LABELS[best[0]]},"class_id":{best[0]},'
        f'"confidence":{within[0]!r},"top":[{top}]}}'
    ).encode()
