import pytest


def pytest_addoption(parser):
    parser.addoption("--update", action="store_true", help="write what is compared anew: snapshots, helm/README.md")


@pytest.fixture
def update(request):
    return request.config.getoption("--update")
