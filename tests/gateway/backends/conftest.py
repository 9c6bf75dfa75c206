"""The real Triton for tests of this folder. A missing environment is a failure, never a skip."""

from __future__ import annotations

import pytest

from gateway.backends.triton_environment import TritonEnvironment, TritonSetupError, find_environment
from tests.support.processes import TRITON_ENVIRONMENT


@pytest.fixture(scope="session")
def triton_environment(tmp_path_factory: pytest.TempPathFactory) -> TritonEnvironment:
    try:
        return find_environment(TRITON_ENVIRONMENT, tmp_path_factory.mktemp("triton"))
    except TritonSetupError as error:
        pytest.fail(f"the tests need a real Triton: run `make setup` ({error})", pytrace=False)
