"""One run: a task, a model, what makes it local, a recipe and a seed → a directory that says everything about it."""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
