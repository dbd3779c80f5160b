"""Which tests run, and in what order."""


def pytest_collection_modifyitems(items):
    """Leave out `tf.test.TestCase.test_session`, which is no test; the longest first, so that no worker ends alone."""
    items[:] = [item for item in items if item.name != "test_session"]
    items.sort(key=lambda item: "quickstart_learns" not in item.name)
