import pytest

from gateway.core.admission import Admission
from gateway.core.plans import RejectionKind


def test_the_bounds_are_inclusive() -> None:
    admission = Admission(2, 100)
    assert admission.check(1, 50, 50) is None
    requests = admission.check(2, 0, 0)
    assert requests is not None
    assert (requests.kind, requests.limit) == (RejectionKind.IN_FLIGHT_REQUESTS, 2)
    too_many_bytes = admission.check(1, 51, 50)
    assert too_many_bytes is not None
    assert (too_many_bytes.kind, too_many_bytes.limit) == (RejectionKind.IN_FLIGHT_BYTES, 100)


@pytest.mark.parametrize(("requests", "nbytes"), [(0, 1), (1, 0), (-1, 1)])
def test_bounds_below_one_are_refused(requests: int, nbytes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Admission(requests, nbytes)
