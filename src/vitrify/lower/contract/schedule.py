"""A schedule: which template lowers a contraction, and with which parameters. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """``parameters`` are those of the template, by name; templates document theirs."""

    template: str
    parameters: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of(template: str, **parameters: int) -> Schedule:
        return Schedule(template, tuple(parameters.items()))

    @property
    def values(self) -> Mapping[str, int]:
        return dict(self.parameters)

    def record(self) -> tuple[tuple[str, int | str], ...]:
        """What :attr:`vitrify.lower.loop.Kernel.schedule` holds."""
        return (("template", self.template), *self.parameters)
