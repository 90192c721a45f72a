"""Every transport in turn."""

import pytest
from tests.integration.transports.factories import FACTORIES, Kind


@pytest.fixture(params=list(FACTORIES))
def kind_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def kind(kind_name: str) -> Kind:
    return FACTORIES[kind_name]
