import numpy as np
import pytest

from training.errors import ModelImportError
from training.importing.outputs import kind_of_outputs
from training.importing.wrapping import probabilities_of

LOGITS = np.array([[3, -1, 0.5], [0, 20, -20]], np.float32)
SHARES = probabilities_of(LOGITS, "logits")
SIGMOIDS = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.3]], np.float32)


def test_softmax_of_logits_adds_up_and_keeps_the_order() -> None:
    np.testing.assert_allclose(SHARES.sum(axis=1), 1, atol=1e-6)
    assert (SHARES.argsort() == LOGITS.argsort()).all()


def test_outputs_say_what_they_are() -> None:
    assert kind_of_outputs(SHARES, None) == "probabilities"
    assert kind_of_outputs(LOGITS, None) == "logits"
    assert kind_of_outputs(np.log(SHARES), None) == "logits"
    assert kind_of_outputs(SIGMOIDS[:, :1], None) == "binary_probability"
    assert kind_of_outputs(LOGITS[:, 1:2], None) == "binary_logit"


def test_log_probabilities_as_logits_give_the_probabilities_back() -> None:
    np.testing.assert_allclose(probabilities_of(np.log(SHARES), "logits"), SHARES, atol=1e-6)


def test_one_output_is_the_second_class() -> None:
    np.testing.assert_allclose(
        probabilities_of(np.array([[0.9]], np.float32), "binary_probability"), [[0.1, 0.9]], rtol=1e-6
    )
    np.testing.assert_allclose(probabilities_of(np.array([[0.0]], np.float32), "binary_logit"), [[0.5, 0.5]])


def test_sigmoids_of_several_labels_are_rejected_unless_called_logits() -> None:
    with pytest.raises(ModelImportError, match="multi-label"):
        kind_of_outputs(SIGMOIDS, None)
    assert kind_of_outputs(SIGMOIDS, "logits") == "logits"


def test_option_that_contradicts_the_outputs_is_rejected() -> None:
    with pytest.raises(ModelImportError, match="with --probabilities: its outputs are from -20 to 20"):
        kind_of_outputs(LOGITS, "probabilities")
    assert kind_of_outputs(SHARES, "probabilities") == "probabilities"


def test_answers_that_are_never_finite_are_rejected() -> None:
    with pytest.raises(ModelImportError, match="NaN or infinite"):
        kind_of_outputs(np.full((4, 3), np.nan, np.float32), None)
    assert kind_of_outputs(np.concatenate([LOGITS, np.full((1, 3), np.nan, np.float32)]), None) == "logits"
