import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.data import Augmentation, letterbox
from kyolo.data import transforms as T

STILL = Augmentation(
    mosaic=0.0, translate=0.0, scale=0.0, hue=0.0, saturation=0.0, value=0.0, flip_horizontal=0.0, flip_vertical=0.0
)


def extent(image):
    """xyxy in edge coordinates of what is clearly brighter than the grey of the background."""
    rows, columns = (np.flatnonzero((np.asarray(image)[..., 0] > T.GREY + 20).any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


class LetterboxTest(tf.test.TestCase, parameterized.TestCase):
    def test_resizes_with_half_pixel_centres(self):
        # 2 -> 4 pixels: centres 0.5, 1.5, 2.5, 3.5 lie at 0.25, 0.75, 1.25, 1.75 in the source, whose own centres are
        # at 0.5 (value 0) and 1.5 (100): 0 (the border), 25, 75, 100 (the border). Rows alike, from two equal ones.
        image = np.repeat(np.uint8([[[0], [100]]] * 2), 3, axis=-1)
        resized, parameters = letterbox(image, (4, 4))
        self.assertAllEqual(resized[..., 1], [[0, 25, 75, 100]] * 4)
        self.assertAllEqual(parameters, [2, 2, 0, 0])
        self.assertEqual(resized.dtype, tf.uint8)

    @parameterized.named_parameters(
        # Size of the image, of the input, fit; scales and pads, x before y.
        ("wide", (480, 640), (320, 320), "letterbox", (0.5, 0.5, 0, 40)),
        ("tall", (640, 320), (320, 320), "letterbox", (0.5, 0.5, 80, 0)),
        ("up", (10, 10), (64, 32), "letterbox", (3.2, 3.2, 0, 16)),
        # 32 / 100 x 33 = 10.56 -> 11 rows; 32 - 11 = 21 over: 10 above, 11 below.
        ("rounded", (33, 100), (32, 32), "letterbox", (0.32, 11 / 33, 0, 10)),
        ("thin", (1, 1000), (32, 32), "letterbox", (0.032, 1.0, 0, 15)),
        ("stretch", (480, 640), (320, 160), "stretch", (0.25, 2 / 3, 0, 0)),
    )
    def test_parameters(self, size, image_size, fit, expected):
        image, parameters = letterbox(np.full((*size, 3), 200, np.uint8), image_size, fit)
        self.assertAllClose(parameters, expected, rtol=1e-6)
        scale_x, scale_y, pad_x, pad_y = expected
        self.assertEqual(image.shape, (*image_size, 3))
        inside = np.full(image_size, T.GREY)
        rows, columns = round(size[0] * scale_y), round(size[1] * scale_x)
        inside[pad_y : pad_y + rows, pad_x : pad_x + columns] = 200
        self.assertAllEqual(image[..., 0], inside)

    def test_graph_with_unknown_size_equals_eager(self):
        image = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)
        graph = tf.function(
            lambda image: letterbox(image, (32, 64)), input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
        )
        for expected, result in zip(letterbox(image, (32, 64)), graph(image), strict=True):
            self.assertAllEqual(result, expected)

    def test_parameters_of_many_images_at_once(self):
        sizes = np.int32([[33, 100], [480, 640], [7, 7]])
        for fit in ("letterbox", "stretch"):
            expected = [T.letterbox_parameters(size, (32, 48), fit) for size in sizes]
            self.assertAllEqual(T.letterbox_parameters(sizes.T, (32, 48), fit), expected)

    def test_unknown_fit(self):
        with self.assertRaisesRegex(ValueError, "crop"):
            letterbox(np.zeros((4, 4, 3), np.uint8), (4, 4), "crop")


class WarpTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_identity_shift_and_flip_are_exact(self, upright):
        image = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
        still = T.warp_image(image, tf.constant([[1.0, 0, 0], [0, 1, 0]]), (6, 8), upright=upright)
        self.assertAllClose(still, image, atol=1e-3)
        # x -> 8 - x mirrors; boxes' edges go along.
        mirror = tf.constant([[-1.0, 0, 8], [0, 1, 0]])
        self.assertAllClose(T.warp_image(image, mirror, (6, 8), upright=upright), image[:, ::-1], atol=1e-3)
        self.assertAllEqual(T.warp_boxes(tf.constant([[1.0, 2, 4, 5]]), mirror), [[4, 2, 7, 5]])
        shifted = T.warp_image(image, tf.constant([[1.0, 0, 3], [0, 1, -2]]), (6, 8), upright=upright)
        self.assertAllClose(shifted[:4, 3:], image[2:, :5], atol=1e-3)
        self.assertAllEqual(shifted[4:], np.full((2, 8, 3), T.GREY))
        self.assertAllEqual(shifted[:, :3], np.full((6, 3, 3), T.GREY))

    def test_upright_equals_the_general_way(self):
        image = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
        matrix = tf.constant([[-1.3, 0, 35], [0, 0.7, 2]])
        general, upright = (T.warp_image(image, matrix, (32, 32), upright=flag) for flag in (False, True))
        # Columns 0..35 of the output lie inside; rows 2..30. Half a pixel at the border is filled differently.
        self.assertAllClose(upright[3:29], general[3:29], atol=0.05)

    def test_quarter_turn(self):
        # (x, y) -> (4 - y, x): the box 0..1 x 0..2 goes to x 2..4, y 0..1.
        matrix = tf.constant([[0.0, -1, 4], [1, 0, 0]])
        image = np.full((4, 4, 3), T.GREY, np.uint8)
        image[0:2, 0:1] = 255
        self.assertAllEqual(T.warp_boxes(tf.constant([[0.0, 0, 1, 2]]), matrix), [[2, 0, 4, 1]])
        self.assertAllEqual(extent(T.warp_image(image, matrix, (4, 4))), [2, 0, 4, 1])

    @parameterized.named_parameters(
        ("scale", {"scale": 0.5}),
        ("translate", {"translate": 0.2}),
        ("flips", {"flip_horizontal": 0.5, "flip_vertical": 0.5}),
        ("degrees", {"degrees": 45.0}),
        ("shear", {"shear": 15.0}),
        ("upright", {"scale": 0.4, "translate": 0.2, "flip_horizontal": 0.5, "flip_vertical": 0.5}),
        ("everything", {"scale": 0.4, "translate": 0.1, "flip_vertical": 0.5, "degrees": 30.0, "shear": 10.0}),
    )
    def test_rectangle_and_box_stay_together(self, strengths):
        augment = Augmentation(**{**vars(STILL), **strengths})
        upright = not (augment.degrees or augment.shear)
        image = np.full((128, 160, 3), T.GREY, np.uint8)
        image[50:71, 60:101] = 255
        boxes, moved = tf.constant([[60.0, 50, 101, 71]]), set()
        for seed in range(12):
            matrix = T.random_affine(augment, tf.constant([seed, 0]), (128, 160), (96, 128))
            warped = T.warp_image(image, matrix, (96, 128), upright=upright)
            box, stays = T.select_visible(boxes, matrix, (128, 160), (96, 128))
            self.assertTrue(stays[0])
            self.assertAllClose([extent(warped)], box, rtol=0, atol=1.0)
            moved.add(tuple(np.round(box[0], 2)))
        self.assertGreater(len(moved), 2)  # The strengths do something.

    def test_still_augmentation_centres_the_canvas(self):
        # Canvas 128 x 160 -> 96 x 128: (160 - 128) / 2 = 16 columns and 16 rows go at each side.
        matrix = T.random_affine(STILL, tf.constant([3, 4]), (128, 160), (96, 128))
        self.assertAllClose(matrix, [[1, 0, -16], [0, 1, -16]])

    def test_strengths_bound_the_draws(self):
        augment = Augmentation(**{**vars(STILL), "scale": 0.5, "translate": 0.1})
        matrices = np.stack([T.random_affine(augment, tf.constant([0, i]), (64, 64), (64, 64)) for i in range(200)])
        scales = matrices[:, 0, 0]
        self.assertAllInRange(scales, 0.5, 1.5)
        # 200 uniform draws leave no tenth of the range out at either end (0.9^200 = 7e-10).
        self.assertLess(scales.min(), 0.6)
        self.assertGreater(scales.max(), 1.4)
        shifts = np.einsum("nij,j->ni", matrices[:, :, :2], [32, 32]) + matrices[:, :, 2] - 32  # of the centre
        self.assertAllInRange(shifts, -6.4001, 6.4001)
        self.assertGreater(np.ptp(shifts), 10)

    def test_which_boxes_stay(self):
        boxes = tf.constant(
            [
                [10.0, 10, 20, 20],  # wholly inside
                [-8, 10, 2.5, 20],  # 2.5 of 10.5 px are left: 0.24 of the area
                [-97, 10, 3, 20],  # 3 of 100 px are left: 0.03
                [10, 10, 12, 20],  # 2 px wide
                [10, 10, 60, 12.1],  # 50 x 2.1
                [60, 10, 70, 20],  # 4 of 10 px are left
                [70, 10, 80, 20],  # outside
            ]
        )
        visible, stays = T.select_visible(boxes, tf.constant([[1.0, 0, 0], [0, 1, 0]]), (64, 64), (64, 64))
        self.assertAllEqual(stays, [True, True, False, False, True, True, False])
        self.assertAllClose(visible[:2], [[10, 10, 20, 20], [0, 10, 2.5, 20]])
        self.assertAllClose(visible[5], [60, 10, 64, 20])

    def test_extreme_aspect_is_dropped(self):
        boxes = tf.constant([[0.0, 0, 400, 3.9], [0, 0, 400, 4.1]])  # aspects 102.6 and 97.6
        _, stays = T.select_visible(boxes, tf.constant([[1.0, 0, 0], [0, 1, 0]]), (400, 400), (400, 400))
        self.assertAllEqual(stays, [False, True])

    def test_what_the_canvas_cuts_counts_as_hidden(self):
        # 100 px wide, 8 of them on the canvas; moved to the middle of the output, the other 92 are grey fill.
        boxes = tf.constant([[-92.0, 10, 8, 20]])
        visible, stays = T.select_visible(boxes, tf.constant([[1.0, 0, 100], [0, 1, 0]]), (32, 32), (200, 200))
        self.assertAllEqual(visible, [[100, 10, 108, 20]])
        self.assertAllEqual(stays, [False])

    def test_no_boxes(self):
        image, boxes, labels = T.augment_image(
            np.zeros((8, 8, 3), np.uint8), tf.zeros((0, 4)), tf.zeros((0,), tf.int32), Augmentation(), [0, 1], (8, 8)
        )
        self.assertEqual((image.shape, boxes.shape, labels.shape), ((8, 8, 3), (0, 4), (0,)))

    def test_labels_stay_with_their_boxes(self):
        boxes = tf.constant([[-30.0, 0, 1, 9], [4, 4, 12, 12], [40, 0, 50, 9], [0, 0, 8, 8]])
        image, kept, labels = T.augment_image(
            np.full((16, 16, 3), 9, np.uint8), boxes, tf.constant([5, 6, 7, 8]), STILL, [0, 1], (16, 16)
        )
        self.assertAllEqual(kept, [[4, 4, 12, 12], [0, 0, 8, 8]])
        self.assertAllEqual(labels, [6, 8])
        self.assertAllEqual(image, np.full((16, 16, 3), 9))

    def test_pixels_are_rounded_to_the_nearest(self):
        # At half the size each pixel is the mean of 2x2: 10.25, 10.75, 20.75 and 20.25.
        pixels = np.array([[10, 10, 10, 11], [10, 11, 11, 11], [20, 21, 20, 20], [21, 21, 20, 21]], np.uint8)
        image, _, _ = T.augment_image(
            np.repeat(pixels[..., None], 3, axis=-1), tf.zeros((0, 4)), tf.zeros((0,), tf.int32), STILL, [0, 1], (4, 4),
            output_size=tf.constant([2, 2]),
        )  # fmt: skip
        self.assertAllEqual(image[..., 0], [[10, 11], [21, 20]])


class ColoursTest(tf.test.TestCase):
    def test_equals_a_turn_about_the_grey_axis(self):
        # With m the mean, d = p - m and n = (1, 1, 1) / sqrt 3, a vector d normal to n turned by t is
        # cos t d + sin t n x d (Rodrigues).
        augment = Augmentation(hue=0.5, saturation=0.3, value=0.2)
        pixels = np.random.default_rng(0).uniform(100, 150, (5, 4, 3)).astype(np.float32)
        for seed in range(5):
            draws = tf.random.stateless_uniform((3,), [seed, 7], -1.0, 1.0).numpy()
            turn, gain_s, gain_v = draws[0] * 0.5 * math.pi, 1 + draws[1] * 0.3, 1 + draws[2] * 0.2
            mean = pixels.mean(axis=-1, keepdims=True)
            away = pixels - mean
            turned = math.cos(turn) * away + math.sin(turn) * np.cross(np.full(3, 1 / math.sqrt(3)), away)
            expected = np.clip(gain_v * (mean + gain_s * turned), 0, 255)
            self.assertAllClose(T.jitter_colours(pixels, augment, tf.constant([seed, 7])), expected, atol=1e-3)

    def test_without_strength_nothing_changes(self):
        pixels = np.random.default_rng(0).uniform(0, 255, (5, 4, 3)).astype(np.float32)
        self.assertAllClose(T.jitter_colours(pixels, STILL, tf.constant([0, 0])), pixels, atol=1e-3)

    def test_grey_stays_grey_and_gets_the_value(self):
        pixels = np.full((2, 2, 3), 100, np.float32)
        augment = Augmentation(hue=0.5, saturation=0.9, value=0.4)
        changed = np.stack([T.jitter_colours(pixels, augment, tf.constant([seed, 1])) for seed in range(50)])
        self.assertAllClose(np.ptp(changed, axis=-1), np.zeros((50, 2, 2)), atol=1e-3)
        self.assertAllInRange(changed, 60, 140)
        self.assertGreater(np.ptp(changed), 50)

    def test_stays_within_a_byte(self):
        pixels = np.float32([[[255, 0, 0], [255, 255, 255], [0, 0, 0], [250, 128, 3]]])
        augment = Augmentation(hue=1.0, saturation=1.0, value=0.9)
        for seed in range(20):
            self.assertAllInRange(T.jitter_colours(pixels, augment, tf.constant([seed, 1])), 0, 255)


if __name__ == "__main__":
    tf.test.main()
