"""Modules pushed to a hub and pulled again, by huggingface_hub against a server on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lorabank.bank.bank import Bank
from lorabank.bank.write.hub_transfer import pulled_folder, push_module
from lorabank.engine.backbone.base import Base
from lorabank.errors import UnavailableError, UsageError
from tests.bank import hub_server
from tests.bank.hub_server import Hub

REPOSITORY = "me/north"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with hub_server.serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub


def push(bank: Bank, *, licence: str | None = "cc-by-4.0", is_public: bool = False) -> str:
    version = bank.store.current("north")
    report = push_module(bank.store, version, REPOSITORY, licence=licence, is_public=is_public)
    return report.url


def test_a_module_is_pushed_with_its_card_and_pulled_into_another_bank(
    bank: Bank, tiny: Base, hub: Hub, tmp_path: Path
):
    url = push(bank)
    repository = hub.repositories[REPOSITORY]
    assert url == f"{hub.url}/{REPOSITORY}/commit/{repository.commit}"
    assert repository.is_private
    assert repository.commits == ["north version 1"]

    card = repository.files["README.md"].decode()
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"license": "cc-by-4.0", "library_name": "peft", "tags": ["lora", "lorabank"]}
    record = bank.store.current("north").record
    assert "| recall | 0.0% before, 100.0% after |" in card
    assert f"| exposures per fact | {record['exposures_per_fact']:.1f} |" in card
    assert f"| KL to the bare base on ordinary text | {record['kl_to_base_nats']:.3f} nats" in card
    assert f"weights sha256 `{tiny.info.sha256}`" in card
    assert "It is activated: on from the assistant's header" in card

    repository.files["training_args.bin"] = b"a pickle"
    repository.files["weights.pkl"] = b"another"
    with Bank.create(tmp_path / "other", base=tiny) as other:
        with pulled_folder(REPOSITORY) as folder:
            assert folder.name == "north"
            assert not {"training_args.bin", "weights.pkl", "README.md"} & {
                path.name for path in folder.iterdir()
            }
            version = other.import_(folder)
        assert (version.module, version.number) == ("north", 1)
        assert other.recall("north") == 1.0
        assert version.sources == bank.store.current("north").sources
    assert not folder.exists()


def test_a_repository_is_public_only_if_it_is_asked_to_be(bank: Bank, hub: Hub):
    push(bank, is_public=True)
    assert not hub.repositories[REPOSITORY].is_private


@pytest.mark.parametrize(
    ("licence", "reason"),
    [(None, "a model card needs the licence"), ("My own: ask", "must be an identifier such as")],
)
def test_a_card_without_licence_is_refused_before_anything_is_sent(
    bank: Bank, hub: Hub, licence: str | None, reason: str
):
    with pytest.raises(UsageError, match=reason):
        push(bank, licence=licence)
    assert hub.requests == []


def test_a_hub_that_refuses_lacks_or_does_not_answer_is_named(
    bank: Bank, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UsageError, match=r"OWNER/NAME, got 'north'"), pulled_folder("north"):
        pass
    with pytest.raises(UsageError, match="the hub has no me/nothing"), pulled_folder("me/nothing"):
        pass
    hub.repositories["me/empty"] = hub_server.Repository(False, {"notes.txt": b"x"})
    with pytest.raises(UsageError, match="no LoRA adapter"), pulled_folder("me/empty"):
        pass
    hub.refuses = 403
    with pytest.raises(UsageError, match=r"cannot be written by you \(403\); log in with"):
        push(bank)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 does not answer"):
        push(bank)
    with (
        pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 does not answer"),
        pulled_folder(REPOSITORY),
    ):
        pass
