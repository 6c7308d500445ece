"""The page: one file that loads nothing, its JSON twin, and a section for each study."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lorabank.errors import UsageError
from lorabank.report.page import make_report, write_report
from lorabank.report.study_results import StudyResults, read_results
from lorabank.study.folder import StudyFolder
from tests.report.capacity_cells import study

STUDIES = Path(__file__).parents[2] / "studies"


def capacity(cells: list | None = None, title: str = "Capacity") -> StudyResults:
    return StudyResults("capacity", title, {"name": "b"}, cells or study())


def committed(*names: str) -> list[StudyResults]:
    return read_results([StudyFolder(STUDIES / name / "results") for name in names])


class Page(HTMLParser):
    """Ids, links and the texts of the page's elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.links += [str(values[k]) for k in ("src", "href", "srcset") if values.get(k)]


def test_the_page_loads_nothing_and_has_what_its_twin_has(tmp_path: Path):
    text = write_report([capacity(title="A <title>")], tmp_path).read_text()
    page = Page(text)
    own = ("#", "data:", "report.json", "figures/")
    assert all(link.startswith(own) for link in page.links)
    assert "@import" not in text
    assert "url(http" not in text
    assert len(page.ids) == len(set(page.ids))
    assert "A &lt;title&gt;" in text
    assert "A <title>" not in text
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    for figure in section["figures"]:
        assert f'<figure id="{figure["name"]}">' in text
        picture = tmp_path / "figures" / f"{figure['name']}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert f"figures/{picture.name}" in page.links
    for sentence in section["in_short"]:
        assert sentence.replace("'", "&#39;").replace("<", "&lt;") in text
    assert section["cost"]["seconds"] == pytest.approx(2.0 * len(study()))
    assert len(section["summary"]) == len(study()) / 3


def test_tables_scroll_with_a_fixed_first_column_and_colours_follow_the_dark_mode(tmp_path: Path):
    text = write_report([capacity()], tmp_path).read_text()
    tags = Page(text).tags
    assert text.count('<div class="wide"') == tags.count("table")
    assert "position: sticky; left: 0" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'name="viewport"' in text


def test_pictures_of_an_earlier_report_are_removed(tmp_path: Path):
    (tmp_path / "figures").mkdir()
    old = tmp_path / "figures" / "by-rule.png"
    old.write_bytes(b"old")
    write_report([capacity()], tmp_path)
    assert not old.exists()


def test_the_same_cells_give_the_same_report_in_any_order():
    cells = study()
    assert make_report([capacity(cells)]) == make_report([capacity(cells[::-1])])


def test_too_few_seeds_are_named(tmp_path: Path):
    text = write_report([capacity(study(seeds=2))], tmp_path).read_text()
    assert "2 seeds, too few for an interval" in text


def test_an_answering_and_a_timed_study_stand_on_one_page(tmp_path: Path):
    """Their cells have different measurements; each study has a section of its own."""
    page = Page(write_report(committed("hybrids", "latency"), tmp_path).read_text())
    report = json.loads((tmp_path / "report.json").read_text())
    assert [section["kind"] for section in report["sections"]] == ["documents", "latency"]
    assert len(page.ids) == len(set(page.ids))
    assert "hybrids-gain" in page.ids
    pictures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"hybrids-gain.png", "latency-total.png"} <= pictures


def test_two_studies_may_have_measured_the_same_cell():
    report = make_report(committed("closed-book", "hybrids"))
    names = [{n for row in s["table"]["rows"] for n in [row[-1]]} for s in report["sections"]]
    assert names[0] & names[1]  # the bare model on the same documents


def test_folders_of_one_study_are_put_together():
    folders = [StudyFolder(STUDIES / "capacity" / name) for name in ("results", "results-long")]
    (results,) = read_results(folders)
    assert len(results.cells) == sum(len(folder.cells()) for folder in folders)


@pytest.mark.parametrize(
    ("studies", "message"),
    [
        ([], "at least one study"),
        ([StudyResults("s", "t", {}, [])], "at least one cell"),
    ],
)
def test_what_cannot_be_reported_is_refused(studies: list[StudyResults], message: str):
    with pytest.raises(UsageError, match=message):
        make_report(studies)
