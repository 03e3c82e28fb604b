import pytest


def pytest_addoption(parser):
    parser.addoption("--update", action="store_true", help="write again what is compared: snapshots, helm/README.md")


@pytest.fixture
def update(request):
    return request.config.getoption("--update")
