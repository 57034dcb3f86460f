import numpy as np
import pytest
import tensorflow as tf

from models.architectures import (
    AutoencoderSpec,
    MaskedLoss,
    TcnSpec,
    build,
    from_dict,
    from_name,
    loss_fn,
    names,
)
from models.errors import InvalidModel

TCN = TcnSpec(channels=6, dilations=(1, 2, 4))
AUTOENCODER = AutoencoderSpec(widths=(16, 4))


def frames(count=2, steps=32, sensors=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, steps, sensors)).astype(np.float32)


@pytest.mark.parametrize(("spec", "predicted"), [(TCN, 32 - 15), (AUTOENCODER, 32)])
def test_a_model_predicts_the_steps_after_its_context(spec, predicted):
    assert 32 - spec.context == predicted
    assert build(spec, 32, 3, seed=1)(frames()).shape == (2, predicted, 3)


def test_the_default_forecaster_reads_31_steps():
    assert TcnSpec().context == 31


def test_a_prediction_depends_on_its_receptive_field_only_and_never_on_the_step_itself():
    model, values = build(TCN, None, 3, seed=1), frames(1, 40)
    before = model(values).numpy()
    for changed in (0, 20, 39):
        other = values.copy()
        other[0, changed] += 5
        moved = np.flatnonzero(np.abs(model(other).numpy() - before).max(axis=(0, 2)) > 1e-6) + TCN.context
        assert set(moved) <= set(range(changed + 1, min(40, changed + TCN.context + 1)))
        assert len(moved) > 0 or changed == 39


def test_where_a_frame_starts_does_not_change_a_forecast():
    model, values = build(TCN, None, 3, seed=1), frames(1, 60)
    whole = model(values).numpy()
    for start in (1, 7, 20):
        np.testing.assert_allclose(model(values[:, start:]).numpy(), whole[:, start:], atol=1e-5)


@pytest.mark.parametrize("spec", [TCN, AUTOENCODER])
def test_the_seed_alone_decides_the_weights(spec):
    one, same, other = (build(spec, 32, 3, seed=seed).get_weights() for seed in (5, 5, 6))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("spec", [TCN, AUTOENCODER])
def test_nan_reads_as_zero(spec):
    model, values = build(spec, 32, 3, seed=1), frames()
    values[0, 5:9, 1] = np.nan
    np.testing.assert_array_equal(model(values).numpy(), model(np.nan_to_num(values)).numpy())


def test_unknown_truth_weighs_nothing_in_loss_and_gradient():
    model, values = build(TCN, 32, 3, seed=1), frames(2)
    values[0, -3:, 2], values[1] = np.nan, np.nan
    with tf.GradientTape() as tape:
        prediction = model(values)
        loss = loss_fn(values, prediction)
    truth, guess = values[0, TCN.context :], prediction.numpy()[0]
    error = np.abs(truth - guess)[np.isfinite(truth)]
    huber = np.where(error <= 1, error**2 / 2, error - 0.5).mean()
    np.testing.assert_allclose(MaskedLoss(reduction="none")(values, prediction), [huber, 0], rtol=1e-5)
    assert all(np.isfinite(g).all() for g in tape.gradient(loss, model.trainable_variables))


def test_specifications_survive_json_and_mistakes_are_named():
    assert names() == ("autoencoder", "tcn")
    assert from_dict({"name": "tcn", "channels": 6, "kernel": 3, "dilations": [1, 2, 4]}) == TCN
    assert from_dict(AUTOENCODER.to_dict()) == AUTOENCODER
    for wrong, expected in [
        (lambda: from_name("lstm"), "'lstm' is unknown; choose one of autoencoder, tcn"),
        (lambda: from_name("tcn", depth=3), "no parameter 'depth'"),
        (lambda: build(TCN, 15, 3, seed=1), "too short"),
        (lambda: build(AUTOENCODER, None, 3, seed=1), "fixed number of steps"),
        (lambda: build(TCN, 32, 0, seed=1), "at least one sensor"),
        (lambda: TcnSpec(dilations=()), "dilations"),
        (lambda: AutoencoderSpec(widths=()), "widths"),
    ]:
        with pytest.raises(InvalidModel, match=expected):
            wrong()


@pytest.mark.parametrize("spec", [TcnSpec(), AutoencoderSpec()], ids=lambda spec: spec.name)
def test_layers_have_names_that_do_not_tell_what_was_built_before(spec):
    """Keras numbers what it names itself by all that its process built, and a SavedModel would show it."""
    first, second = ([layer.name for layer in build(spec, 40, 3, seed=1).layers] for _ in range(2))
    assert first == second
