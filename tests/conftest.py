"""The order of the tests."""


def pytest_collection_modifyitems(items):
    """The longest first, so that no worker is left alone with one in the end (make test leaves this order as it is)."""
    items.sort(key=lambda item: "quickstart_learns" not in item.name)
