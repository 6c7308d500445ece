"""Models for the tests: a random two-layer Llama built here, and the real embedded one."""

from pathlib import Path

import pytest
import torch

from lorabank.engine.backbone.base import Base, load_base, load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.models.tiny import build_tiny

CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe tiny<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


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


@pytest.fixture(scope="session")
def real() -> Base:
    """The embedded model; fetched and converted if this is the first time."""
    return load_base("smollm2-135m", device="cpu")
