from __future__ import annotations

import pytest

from gateway.core.admission import Admission
from gateway.core.plans import RejectionKind
from gateway.errors import ErrorCode


def test_counts_up_to_its_bounds_and_back_to_zero() -> None:
    door = Admission(2, 100)
    assert door.enter(60) is None
    too_large = door.enter(41)
    assert too_large is not None
    assert (too_large.kind, too_large.limit) == (RejectionKind.IN_FLIGHT_BYTES, 100)
    assert door.enter(40) is None
    too_many = door.enter(0)
    assert too_many is not None
    assert (too_many.kind, too_many.limit) == (RejectionKind.IN_FLIGHT_REQUESTS, 2)
    door.leave(60)
    door.leave(40)
    assert (door.requests, door.nbytes) == (0, 0)
    with pytest.raises(ValueError, match="never entered"):
        door.leave(0)


def test_judges_derived_numbers() -> None:
    door = Admission(2, 100)
    assert door.check(1, 100) is None
    for refused, word in ((door.check(2, 1), "requests"), (door.check(0, 60, 41), "bytes")):
        assert refused is not None
        assert refused.code is ErrorCode.OVERLOADED
        assert word in refused.message


def test_bounds_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Admission(0, 1)
