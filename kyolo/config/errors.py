"""The one error that a bad configuration raises."""


class ConfigError(ValueError):
    """A setting that is unknown, missing, mistyped or out of range: what was expected and what was received.

    Args:
        path: dotted path of the setting, such as "model.attention.0.kind"; "" where the whole file is meant.
        problem: what was expected and what was received, on one line.
    """

    def __init__(self, path: str, problem: str):
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem

    def under(self, parent: object) -> "ConfigError":
        """Return the same error as seen from the block above: its path gets `parent` in front."""
        return ConfigError(f"{parent}.{self.path}" if self.path else str(parent), self.problem)
