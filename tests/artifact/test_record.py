"""Quickly made named tuples do what those of ``typing`` do."""

from __future__ import annotations

import copy
import pickle

import pytest

from vitrify.artifact.record import Record


class Point(Record):
    """With a default."""

    x: int
    y: int = 2

    @property
    def total(self) -> int:
        return self.x + self.y


def test_they_are_named_tuples() -> None:
    point = Point(1)
    assert point == (1, 2) == Point(x=1) == Point(1, y=2) and isinstance(point, tuple)
    assert (point.x, point.y, point.total) == (1, 2, 3)
    assert Point._fields == ("x", "y") and Point._field_defaults == {"y": 2}
    assert point._asdict() == {"x": 1, "y": 2} and repr(point) == "Point(x=1, y=2)"
    assert point._replace(y=5) == (1, 5) and Point._make([3, 4]) == Point(3, 4)
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == point
    assert type(pickle.loads(pickle.dumps(point))) is Point and hash(point) == hash((1, 2))
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_wrong_fields_are_refused() -> None:
    for values, named in (((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})):
        with pytest.raises(TypeError, match="Point"):
            Point(*values, **named)
    with pytest.raises(ValueError, match="no z"):
        Point(1)._replace(z=1)
    with pytest.raises(AttributeError):
        Point(1).x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]
