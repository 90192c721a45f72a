"""What holds for all tests."""

import pytest
from hypothesis import settings

# The machines that run them are shared: how long an example takes says nothing of the code.
settings.register_profile("twofold", deadline=None)
settings.load_profile("twofold")

_GARBAGE_WARNS = "default::pytest.PytestUnraisableExceptionWarning"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take what tests of the mark ``cluster`` cannot find out by themselves."""
    cluster = parser.getgroup("cluster", "the cluster that KUBECONFIG names")
    cluster.addoption("--twofold-registry", help="where the images are, without a slash at the end")
    cluster.addoption("--twofold-tag", help="of the images; default: the chart's version")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside the unit tests, report what fails while garbage is collected without failing for it.

    A collector runs whenever it likes, so it is seldom the test that left the garbage which such a
    warning falls into; and where Ray, gRPC and vLLM's servers run, it is seldom ours.
    """
    for item in items:
        if "unit" not in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings(_GARBAGE_WARNS))
