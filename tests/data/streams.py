"""The endless stream of training batches, as a training of known length reads it."""

from kyolo.data import Augmentation, ImageStore, Share, TrainStream, load_index


def endless(source, *, image_size, fit="letterbox", cache="memory", epochs=100, start_step=0, share=None, **options):
    """Batches of the train split of a folder, or of an index; options as of `TrainStream`."""
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    store = cache if isinstance(cache, ImageStore) else ImageStore(size, fit=fit, cache=cache)
    index = source if hasattr(source, "num_images") else load_index(source, "train", store=store)
    augment = options.pop("augment", Augmentation())
    stream = TrainStream(index, store, augment, **options)
    return stream.batches(epochs, start_step, share or Share())
