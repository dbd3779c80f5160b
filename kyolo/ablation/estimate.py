"""How long a training takes, from a few measured steps."""

import statistics
import time

from kyolo.config import Config

STEPS = 3


def run_seconds(config: Config) -> float:
    """Return the expected seconds of a training: steps and evaluations, without the start of the process.

    One training batch and one validation batch are read from the data; each is run once to trace the graph, then
    three times.

    Args:
        config: the configuration of the run.

    Raises:
        ConfigError: the settings do not fit the data.
        InputError: the data cannot be read.
    """
    from kyolo.config import training_hw
    from kyolo.data import plain_batches
    from kyolo.evaluation import NMSSettings, Predictor
    from kyolo.models.build import build_loss
    from kyolo.training import resolve
    from kyolo.training.optimizers import build_optimizer
    from kyolo.training.run_folder import dtype_policy
    from kyolo.training.splits import load_splits, make_store, train_stream
    from kyolo.training.start import start_detector

    store = make_store(config)
    train_index, val_index = load_splits(config, store)
    config = resolve(config, train_index)
    with dtype_policy(config.train.precision):
        detector = start_detector(config)
        stream = train_stream(config, train_index, store, detector.strides[-1])
        optimizer = build_optimizer(config.train, stream.steps_per_epoch, detector)
        loss = build_loss(config.model.loss, training_hw(config))
        detector.compile(optimizer, loss, ema_decay=config.train.ema.decay or None)
        images, targets = next(iter(stream.batches(config.train.epochs)))[:2]
        step = _median_seconds(lambda: detector.train_on_batch(images, targets))
        predictor = Predictor(detector, NMSSettings())
        inputs, val_targets, *_ = next(iter(plain_batches(val_index, store, config.evaluation.batch_size)))
        batch = inputs, val_targets["letterbox"], val_targets["size"]
        evaluation = _median_seconds(lambda: list(predictor.predict([batch])))
    batches = -(-val_index.num_images // config.evaluation.batch_size)
    evaluations = -(-config.train.epochs // config.train.evaluate_every)
    return config.train.epochs * stream.steps_per_epoch * step + evaluations * batches * evaluation


def _median_seconds(call) -> float:
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
