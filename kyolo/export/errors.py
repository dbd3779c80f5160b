"""The error of an export that is not what was exported."""


class ExportError(RuntimeError):
    """An exported file does not give the detector's results; nothing was kept. The command line exits with 1."""
