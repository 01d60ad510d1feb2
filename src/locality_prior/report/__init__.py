"""A finished study's files → one self-contained page. Nothing else is read, so it can be made anywhere, at any time."""

from locality_prior.report.page import write as write
