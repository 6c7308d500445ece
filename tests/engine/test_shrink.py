"""Shrinking an adapter: what is kept is proved, PEFT reads the same function, and refusals."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorabank.engine.adapters.adapter import (
    CONFIG,
    TENSORS,
    Adapter,
    load_adapter,
    read_config,
    read_tensors,
    save_adapter,
)
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.adapters.packed import as_float_file, pack, parse_dtype
from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import learn
from lorabank.engine.recall import recall
from lorabank.engine.settings import TrainSettings
from lorabank.engine.shrink import ShrinkSettings, Shrunk, forms_to_keep, shrink
from lorabank.engine.shrink_folder import shrink_folder
from lorabank.errors import UsageError
from lorabank.lora.factors import Factors
from lorabank.lora.shrinking import by_worth, ranks_of
from lorabank.lora.triples import triples_of
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

FACTS = phonebook.to_examples(phonebook.build(4, seed=3))
TINY = TrainSettings(
    r=8, alpha=16.0, layers=None, lr=1e-2, exposures=200, wordings=0, protect_share=0.0
)
IDS = torch.tensor([[1, 5, 9, 33, 7, 2, 40]])


@pytest.fixture(scope="module", params=[True, False], ids=["activated", "always on"])
def taught(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model

    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    folder = tmp_path_factory.mktemp("taught") / "adapter"
    report = learn(base, FACTS, out=folder, settings=replace(TINY, activated=request.param))
    assert report.recall == 1.0
    return folder


def shrunk_form(base: Base, folder: Path, settings: ShrinkSettings) -> Shrunk:
    adapter = load_adapter(folder, base)
    forms = forms_to_keep(base, FACTS, "sound", activated=adapter.activated)[:2]  # as taught
    return shrink(base, adapter, forms, settings)


def test_triples_give_the_update_and_its_best_approximation():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 20, generator=generator), torch.randn(30, 6, generator=generator)
    triples = triples_of(Factors(a, b, 0.5)).above_rounding()
    whole = 0.5 * b @ a
    for k in (6, 3):
        cut_a, cut_b = triples.leading(k)
        u, s, vh = torch.linalg.svd(whole)
        torch.testing.assert_close(cut_b @ cut_a, (u[:, :k] * s[:k]) @ vh[:k], atol=1e-4, rtol=0)


def test_triples_are_ordered_by_what_they_bring_for_their_size():
    wide = triples_of(Factors(torch.eye(2, 100), torch.diag(torch.tensor([3.0, 1.0]))))
    narrow = triples_of(
        Factors(torch.eye(2, 3), torch.diag(torch.tensor([2.0, 0.0])))
    ).above_rounding()
    assert len(narrow.s) == 1  # a value of zero is no triple
    order = by_worth({"wide": wide, "narrow": narrow})
    assert order == ["narrow", "wide", "wide"]
    assert ranks_of(order, 2) == {"narrow": 1, "wide": 1}
    assert ranks_of(order, 3, most_r=1) == {"narrow": 1, "wide": 1}


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_the_smaller_form_recalls_all_and_plain_peft_gives_its_logits(
    taught: Path, tiny: Base, tiny_folder: Path, tmp_path: Path, dtype: str
):
    small = tmp_path / "small"
    settings = ShrinkSettings(keep_recall=1.0, dtype=parse_dtype(dtype))
    report = shrink_folder(tiny, taught, FACTS, out=small, settings=settings)
    assert report["bytes_after"] < report["bytes_before"]
    kept, before = report["shrunk"]["recall"], report["shrunk"]["recall_before"]
    assert kept["template"] == kept["none"] == 1.0
    assert all(kept[name] >= share for name, share in before.items())
    config = read_config(small)
    assert config["rank_pattern"]
    assert not config["alpha_pattern"]  # which some readers ignore
    measured = recall(tiny, small, FACTS)
    assert measured.recall_by_rendering == {
        name: kept[name] for name in ("template", "none", "other")
    }
    assert measured.smallest_lead == pytest.approx(report["shrunk"]["smallest_lead"], abs=1e-3)

    adapter = load_adapter(small, tiny)
    header = list(tiny.chat.header_ids()) if adapter.activated else []
    ids = torch.tensor([[*IDS[0].tolist(), *header, 5, 9, 40]])
    mask = torch.zeros(1, ids.shape[1], 1, dtype=torch.bool)
    mask[:, IDS.shape[1] if header else 0 :] = True
    with loaded_fleet(tiny, [adapter]) as fleet, fleet.assigned([0], adapter_mask=mask):
        ours = tiny.model(input_ids=ids).logits
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    bare = plain(input_ids=ids).logits
    theirs = PeftModel.from_pretrained(plain, small).eval()(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert not torch.allclose(bare, theirs, atol=1e-2)


def test_one_number_less_would_not_do(taught: Path, tiny: Base):
    strict = shrunk_form(tiny, taught, ShrinkSettings(keep_recall=1.0, margin=1.0))
    loose = shrunk_form(tiny, taught, ShrinkSettings(keep_recall=0.5, margin=0.0))
    assert loose.parameters < strict.parameters < strict.parameters_before
    assert strict.smallest_lead >= 1.0
    assert all(share >= 0.5 for share in loose.recall.values())


def test_less_than_recall_allows_is_refused_by_the_smallest_rank(taught: Path, tiny: Base):
    with pytest.raises(UsageError, match=r"--r 1 does not keep .* smallest rank .* is (\d)") as e:
        shrunk_form(tiny, taught, ShrinkSettings(keep_recall=1.0, margin=8.0, r=1))
    smallest = int(str(e.value).split("is ")[-1][0])
    form = shrunk_form(tiny, taught, ShrinkSettings(keep_recall=1.0, margin=8.0, r=smallest))
    assert max(form.packed.ranks.values()) <= smallest


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"keep_recall": 0.0}, "--keep-recall must be above 0"),
        ({"margin": -1.0}, "--margin must be 0 to 20"),
        ({"r": 0}, "--r must be at least 1"),
    ],
)
def test_choices_out_of_range_are_refused(changes: dict[str, float], match: str):
    with pytest.raises(UsageError, match=match):
        ShrinkSettings(**changes)  # type: ignore[arg-type]


def test_int8_is_read_back_within_half_a_step_and_exported_as_float32(tmp_path: Path, tiny: Base):
    generator = torch.Generator().manual_seed(1)
    paths = list(tiny.linears)[:2]
    layers = {
        path: (
            torch.randn(k, tiny.linears[path][1], generator=generator),
            torch.randn(tiny.linears[path][0], k, generator=generator),
        )
        for k, path in enumerate(paths, start=2)
    }
    packed = pack(layers, "int8")
    for path, (a, b) in packed.weights().items():
        k = packed.ranks[path]
        for read, given, dim in ((a[:k], layers[path][0], 1), (b[:, :k], layers[path][1], 0)):
            step = given.abs().amax(dim=dim, keepdim=True) / 127
            assert bool(((read - given).abs() <= step * 0.501).all())
    adapter = Adapter(packed.weights(), packed.r, float(packed.r), True, {})
    save_adapter(tmp_path / "int8", adapter, base=tiny, packed=packed)
    assert read_config(tmp_path / "int8")["r"] == 3
    stored = read_tensors(tmp_path / "int8" / TENSORS)
    assert not any(name.endswith(".weight") for name in stored)  # PEFT must not take them for A, B
    again = load_adapter(tmp_path / "int8", tiny)
    for path, (a, b) in packed.weights().items():
        torch.testing.assert_close(again.weights[path][0], a)
        torch.testing.assert_close(again.weights[path][1], b)
    content = as_float_file((tmp_path / "int8" / TENSORS).read_bytes())
    (tmp_path / "int8" / TENSORS).write_bytes(content)
    assert {tensor.dtype for tensor in read_tensors(tmp_path / "int8" / TENSORS).values()} == {
        torch.float32
    }
    torch.testing.assert_close(load_adapter(tmp_path / "int8", tiny).weights, again.weights)


def test_a_folder_takes_no_int8(taught: Path, tiny: Base, tmp_path: Path):
    with pytest.raises(UsageError, match="for modules of a bank"):
        shrink_folder(
            tiny, taught, FACTS, out=tmp_path / "small", settings=ShrinkSettings(dtype="int8")
        )
    with pytest.raises(UsageError, match="--dtype must be float32, bf16, int8, got 'int4'"):
        parse_dtype("int4")


def test_nothing_to_prove_by_is_refused(taught: Path, tiny: Base, tmp_path: Path):
    none: list[Example] = []
    with pytest.raises(UsageError, match="give at least one fact"):
        shrink_folder(tiny, taught, none, out=tmp_path / "small", settings=ShrinkSettings())
    assert not (tmp_path / "small" / CONFIG).exists()
