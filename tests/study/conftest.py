"""What all tests of studies share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the models that studies make in a folder of the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORABANK_CACHE", str(tmp_path_factory.getbasetemp() / "study-cache"))
        yield
