import pytest
from serve.serving import small_model
from starlette.testclient import TestClient

from keras_fcn.serve.app import create_app


@pytest.fixture(scope="module")
def served():
    return small_model()


@pytest.fixture(scope="module")
def client(served):
    with TestClient(create_app(served), base_url="http://localhost:8000") as client:
        yield client
