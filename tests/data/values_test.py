import math

from absl.testing import absltest, parameterized

from kyolo.data.values import as_flag, as_id, as_number, as_side

NEVER = (
    True,
    False,
    None,
    [],
    {},
    "",
    " ",
    "one",
    "0,5",
    "1_0",
    "0x10",
    "\uff11",
    "nan",
    "inf",
    "1e400",
    math.nan,
    math.inf,
)


class ValuesTest(parameterized.TestCase):
    @parameterized.parameters(
        (0, 0), (-7, -7), (0.5, 0.5), ("0.5", 0.5), (".5", 0.5), ("5.", 5), (" 1e-3\n", 0.001), ("+1E2", 100), ("-0", 0)
    )
    def test_numbers(self, value, expected):
        self.assertEqual(as_number(value), expected)

    @parameterized.parameters(*((value,) for value in NEVER), 10**31, -(10**4000), "9" * 4000)
    def test_what_is_not_a_number(self, value):
        self.assertIsNone(as_number(value))

    @parameterized.parameters(
        (1, 1), (1.0, 1), ("1", 1), ("1.0", 1), (" -3 ", -3), (0, 0), ("0", 0), (2**53 - 1, 2**53 - 1)
    )
    def test_ids(self, value, expected):
        self.assertEqual(as_id(value), expected)
        self.assertIsInstance(as_id(value), int)

    @parameterized.parameters(
        *((value,) for value in NEVER), 1.5, "1.5", "01", "1e2", "a1", 2**53, -(2**53), float(2**53), "9" * 400
    )
    def test_what_is_not_an_id(self, value):
        self.assertIsNone(as_id(value))

    @parameterized.parameters((1, 1), ("640", 640), (96.0, 96), (0, None), (-5, None), (2**31, None), (0.5, None))
    def test_sides(self, value, expected):
        self.assertEqual(as_side(value), expected)

    @parameterized.parameters(True, 1, 1.0, "1", "1.0", "true", "True", "YES", " yes ")
    def test_flags_that_are_yes(self, value):
        self.assertIs(as_flag(value), True)

    @parameterized.parameters(None, False, 0, 0.0, "0", "0.0", "false", "FALSE", "No", "", " ")
    def test_flags_that_are_no(self, value):
        self.assertIs(as_flag(value), False)

    @parameterized.parameters(("Unspecified",), (-1,), ("-1",), (2,), (0.5,), ([],), ({},), ([1],), (math.nan,))
    def test_flags_that_are_neither(self, value):
        self.assertIsNone(as_flag(value))


if __name__ == "__main__":
    absltest.main()
