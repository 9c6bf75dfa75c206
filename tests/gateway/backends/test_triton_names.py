"""Under which names versions are known in Triton, and which of Triton's names are ours."""

from __future__ import annotations

import pytest

from gateway.backends.triton_names import VersionedNames
from gateway.versions import ModelVersion

OWNERS = ("", "3f2a90bc", "v2", "v2-x", "-")


@pytest.mark.parametrize("model", ["m", "m.v1", "m.v1.v2", "m.v1.3f2a90bc"])
@pytest.mark.parametrize("owner", OWNERS)
def test_every_owner_knows_its_own_versions(owner: str, model: str) -> None:
    names, version = VersionedNames(owner), ModelVersion(model, 12)
    name, number = names(version)
    assert names.version_of(name) == version
    assert number == "1"


@pytest.mark.parametrize("owner", [owner for owner in OWNERS if owner])
def test_nobody_takes_anothers_versions_for_its_own(owner: str) -> None:
    name, _ = VersionedNames(owner)(ModelVersion("m", 1))
    for other in OWNERS:
        if other not in ("", owner):
            assert VersionedNames(other).version_of(name) is None


@pytest.mark.parametrize("name", ["m", "m.v0", "m.v01", ".v1", "m.v1.", "m.v1.other", "m.v99999999999"])
def test_what_is_none_of_ours(name: str) -> None:
    assert VersionedNames().version_of(name) is None
    assert VersionedNames("a").version_of(f"{name}.a") is None
