"""Models for the tests: a random two-layer Llama built here, and the real embedded one."""

from pathlib import Path

import pytest
import torch

from lorabank.engine.backbone import base as backbone
from lorabank.engine.backbone.base import Base, load_info, native_dtype, pick_device
from lorabank.engine.models.registry import ModelInfo, find_model
from lorabank.engine.models.tiny import build_tiny

CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe tiny<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests on the real model first, in random order among themselves as all others are.

    They take longest. One process then has most of them, and shares what its base has computed;
    the others take over the end of its share.
    """
    items.sort(key=lambda item: item.get_closest_marker("real") is None)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Products of 64 x 64 are slower on two threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("models") / "tiny", chat_template=CHATML)


@pytest.fixture
def tiny(tiny_folder: Path) -> Base:
    """A fresh copy each time, in float32: tests put adapters around its layers."""
    return load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")


_Loaded = dict[tuple[Path, str, str | None, str | None], Base]


@pytest.fixture(scope="session")
def loaded() -> _Loaded:
    """Bases that `kept_base` and `real` have loaded in this process."""
    return {}


def _load_once(
    loaded: _Loaded, info: ModelInfo, *, dtype: str | None, device: str | None, quantize: str | None
) -> Base:
    device = pick_device(device)
    dtype = dtype or str(native_dtype(device)).removeprefix("torch.")
    key = (info.path, device, dtype, quantize)
    if key not in loaded:
        loaded[key] = load_info(info, dtype=dtype, device=device, quantize=quantize)
    return loaded[key]


@pytest.fixture
def kept_base(loaded: _Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands that run in this process use one loaded base, as a program does that stays.

    What the frozen base reads of ordinary questions is then computed once for all of them.
    """

    def load(
        info: ModelInfo,
        *,
        dtype: str | None = None,
        device: str | None = None,
        quantize: str | None = None,
    ) -> Base:
        return _load_once(loaded, info, dtype=dtype, device=device, quantize=quantize)

    monkeypatch.setattr(backbone, "load_info", load)


@pytest.fixture(scope="session")
def real(loaded: _Loaded) -> Base:
    """The embedded model; fetched and converted if this is the first time."""
    info = find_model("smollm2-135m")
    return _load_once(loaded, info, dtype=None, device="cpu", quantize=None)
