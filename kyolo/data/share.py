"""The part of every batch that one of several workers reads."""

import dataclasses

import numpy as np
import tensorflow as tf

from kyolo.errors import ArgumentError


@dataclasses.dataclass(frozen=True)
class Share:
    """Neighbouring pieces of a batch, which is cut into as many equal ones as there are replicas.

    Attributes:
        replicas: pieces of a batch.
        first: number of the first piece that is read.
        count: pieces that are read of each batch.

    Example:
        >>> positions = Share(replicas=2, first=1).positions(batch_size=4, start_step=0)
        >>> [int(position) for position in positions.take(5)]
        [2, 3, 6, 7, 10]
    """

    replicas: int = 1
    first: int = 0
    count: int = 1

    def piece_size(self, batch_size: int) -> int:
        """Images of a piece.

        Raises:
            ValueError: the batch cannot be cut into equal pieces.
        """
        if batch_size % self.replicas:
            raise ArgumentError("batch_size", f"expected a multiple of the {self.replicas} replicas, got {batch_size}.")
        return batch_size // self.replicas

    def has(self, position: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Whether a position of the stream is read."""
        piece = position % batch_size // self.piece_size(batch_size)
        return (self.first <= piece) & (piece < self.first + self.count)

    def positions(self, batch_size: int, start_step: int | tf.Tensor) -> tf.data.Dataset:
        """The positions of an endless stream that are read, from a step on; a batch has those next to each other."""
        piece = self.piece_size(batch_size)
        own = self.count * piece
        dataset = tf.data.Dataset.range(start_step * own, np.iinfo(np.int64).max)
        if self.count == self.replicas:
            return dataset
        return dataset.map(lambda n: n // own * batch_size + self.first * piece + n % own)
