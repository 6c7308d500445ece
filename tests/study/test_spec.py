"""A spec's cells: what they resolve to, and what is refused before anything is loaded."""

from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.planning.cost import Shape
from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.kinds import find_kind, plan_fleets
from lorabank.study.spec import from_json, list_studies, load_study

SPEC = """
name = "mine"
title = "Mine"
[preset.cpu]
base = "random-tiny"
[preset.cpu.fixed]
layers = "last-1"
[preset.cpu.axes]
r = [1, 2]
facts = [8, 16]
seed = [0, 1, 2]
[[preset.cpu.arms]]
exposures = [10, 30]
[[preset.cpu.arms]]
exposures = "paper"
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(SPEC)
    return file


def test_arms_multiply_with_the_axes_and_names_are_distinct(spec_file: Path):
    spec = load_study(str(spec_file))
    assert len(spec.cells) == 2 * 2 * 3 * 3
    assert len({cell.name for cell in spec.cells}) == len(spec.cells)
    assert {cell.axes.exposures for cell in spec.cells} == {10, 30, "paper"}
    assert from_json(spec.as_json()) == spec


def test_set_replaces_axes_in_every_arm(spec_file: Path):
    spec = load_study(str(spec_file), changes=["r=4", "exposures=5", "seed=7,8", "layers=0,1"])
    assert {c.axes.r for c in spec.cells} == {4}
    assert {c.axes.layers for c in spec.cells} == {"0,1"}
    assert len(spec.cells) == 2 * 2


def test_arms_that_come_to_the_same_cells_are_refused(spec_file: Path):
    spec_file.write_text(SPEC + "[[preset.cpu.arms]]\nexposures = [30, 100]\n")
    with pytest.raises(UsageError, match=r"arm 3 .* there already: .*exposures=30"):
        load_study(str(spec_file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rnak=3", "no axis 'rnak'; did you mean"),
        ("variant=pisa", "did you mean pissa?"),
        ("recipe=soud", "did you mean sound?"),
        ("r=0", "r takes 1 to 1024, got 0"),
        ("exposures=convergd", "did you mean converged?"),
        ("facts=true", "facts takes"),
        ("lr", "takes key=value"),
        ("width=0", "width takes"),
        ("task=counterfact,phonebok", "did you mean phonebook?"),
    ],
)
def test_unknown_axes_and_values_name_the_near_misses(spec_file: Path, change: str, message: str):
    with pytest.raises(UsageError) as caught:
        load_study(str(spec_file), changes=[change])
    assert message in str(caught.value)


def test_the_former_name_of_an_axis_is_accepted_and_replaced_by_the_present_one(spec_file: Path):
    spec_file.write_text(SPEC.replace("layers =", "most_exposures = 50\nlayers ="))
    changes = ["exposures=converged", "max_exposures=70"]
    assert {
        c.axes.max_exposures for c in load_study(str(spec_file), changes=changes[:1]).cells
    } == {50}
    (by_new, by_former) = (
        load_study(str(spec_file), changes=[changes[0], change]).cells
        for change in (changes[1], "most_exposures=70")
    )
    assert by_new == by_former
    assert {cell.axes.max_exposures for cell in by_new} == {70}


def test_unknown_studies_presets_and_files(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean capacity"):
        load_study("capacty")
    with pytest.raises(UsageError, match="did you mean smoke"):
        load_study("capacity", preset="smok")
    with pytest.raises(DataError, match="no such file"):
        load_study(str(tmp_path / "none.toml"))
    bad = tmp_path / "bad.toml"
    bad.write_text("name = ")
    with pytest.raises(DataError, match="not TOML"):
        load_study(str(bad))


def test_tokens_are_the_papers_loads():
    assert [CapacityAxes.resolve({"tokens": t}).facts for t in (1000, 4000, 8000)] == [48, 192, 384]
    with pytest.raises(UsageError, match="without facts"):
        CapacityAxes.resolve({"tokens": 1000, "facts": 3})
    with pytest.raises(UsageError, match="needs a load"):
        CapacityAxes.resolve({"r": 1})


def test_what_follows_from_the_recipe():
    sound, paper = (
        CapacityAxes.resolve({"facts": 8, "r": 4}),
        CapacityAxes.resolve({"facts": 8, "r": 4, "recipe": "paper"}),
    )
    assert (sound.activated, sound.alpha, sound.lr) == (
        True,
        8.0,
        pytest.approx(1.414e-3, rel=1e-3),
    )
    assert (paper.activated, paper.alpha, paper.lr) == (False, 4.0, 5e-5)
    assert CapacityAxes.resolve({"facts": 8, "variant": "dora"}).activated is False


def test_every_study_of_the_package_loads_at_every_preset():
    for name, one in list_studies().items():
        for preset in one["presets"]:
            spec = load_study(name, preset=preset)
            fleets = plan_fleets(spec)
            planned = [cell.name for fleet in fleets for cell in fleet.cells]
            assert sorted(planned) == sorted(cell.name for cell in spec.cells)


def test_cells_of_one_placement_share_fleets_the_longest_first(spec_file: Path):
    spec = load_study(str(spec_file), changes=["width=50"])
    (fleet,) = plan_fleets(spec)
    assert fleet.cells[0].axes.exposures == "paper"
    apart = load_study(str(spec_file), changes=["activated=true,false"])
    assert {frozenset(c.axes.activated for c in f.cells) for f in plan_fleets(apart)} == {
        frozenset({True}),
        frozenset({False}),
    }


def test_an_estimate_grows_with_layers_run_and_examples_seen(spec_file: Path):
    shape = Shape(hidden=576, ffn=1536, layers=30, vocabulary=49152, kv_share=1 / 3)

    def seconds(*changes: str) -> float:
        cells = load_study(str(spec_file), changes=changes).cells
        return find_kind("capacity").estimate(cells, shape)

    assert seconds("exposures=20") == pytest.approx(2 * seconds("exposures=10"))
    assert seconds("layers=all") > 3 * seconds("layers=last-1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', "name = 3", "a spec needs name"),
        ('title = "Mine"', "title = [1]", "title: .* got \\[1\\]"),
        ('base = "random-tiny"', "base = 7", "preset cpu: base: .* got 7"),
        ('layers = "last-1"', "layers = nan", "beyond 1e308, or nan"),
        ("seed = [0, 1, 2]", "seed = 1e400", "beyond 1e308, or nan"),
        ("seed = [0, 1, 2]", f"seed = {'9' * 50}", "whole number of more than 63 bits"),
        ("seed = [0, 1, 2]", f"seed = {'9' * 5_000}", "number of thousands of digits"),
        ("seed = [0, 1, 2]", f"seed = {'[' * 5_000}", "nests too deeply"),
        ("seed = [0, 1, 2]", f"seed = {'[' * 200}{']' * 200}", "nests deeper than 100 levels"),
        ("seed = [0, 1, 2]", f"seed = {list(range(30_000))}", "come to 240,000 cells"),
        ("seed = [0, 1, 2]", "seed = 2020-01-01", "seed takes"),
        ("[preset.cpu.fixed]", "[[preset.cpu.fixed]]", "preset cpu: fixed: "),
        ("[preset.cpu.axes]", "[[preset.cpu.axes]]", "preset cpu: axes: "),
        ("[[preset.cpu.arms]]\nexposures = [10", "[preset.cpu]\narms = 3\nx = [10", "not TOML"),
        ('base = "random-tiny"', "width = true", "width takes"),
    ],
)
def test_wrong_types_in_a_spec_are_one_line(spec_file: Path, old: str, new: str, message: str):
    spec_file.write_text(SPEC.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as problem:
        load_study(str(spec_file))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("study", 3, "study: "),
        ("title", None, "title: "),
        ("width", "8", "width: "),
        ("width", True, "width: "),
        ("dtype", 16, "dtype: "),
        ("kind", ["capacity"], "kind: "),
        ("cells", [], "cells: "),
        ("cells", {"a": 3}, "cells.a: "),
        ("cells", {"../../a": {}}, "no slash"),
        ("cells", {"a": {}}, "cell a: the axis .* is missing"),
        ("cells", {"a": {"r": "four"}}, "cell a: r takes 1 to 1024, got 'four'"),
    ],
)
def test_wrong_types_in_study_json_are_one_line(
    spec_file: Path, key: str, value: object, message: str
):
    content = load_study(str(spec_file)).as_json()
    if isinstance(value, dict) and value.get("a"):  # one axis that is wrong, the others as they are
        axes = next(iter(content["cells"].values()))
        value = {"a": {**axes, **value["a"]} if isinstance(value["a"], dict) else value["a"]}
    with pytest.raises(UsageError, match=message) as problem:
        from_json({**content, key: value})
    assert "\n" not in str(problem.value)
