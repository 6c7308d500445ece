"""Write docs/models.md from the families' checks: `python -m tests.families`.

Each family is built and checked as in `test_conformance.py`.
"""

import tempfile
from pathlib import Path

import torch

from lorabank.errors import ModelError
from tests.families.catalogue import FAMILIES, Family
from tests.families.conformance import check, load

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
HEAD = """# Models

Every decoder model of transformers is meant to work or to be refused at load in one line. This
table is what `tests/families/` finds with the real architecture of each family, random small
weights, its published chat template and its control tokens (`python -m tests.families` writes
this page). *Works* means: an adapter learns some facts and recalls them; transformers with PEFT
alone, under the family's own `apply_chat_template`, gives the same answers; a bank writes and
answers them; reading from caches and in batches changes nothing.

*Adapted* is the share of the decoder layers' weights around which an adapter can go. The rest are
mostly experts that are fused into one tensor.

| family | activated | always on | adapted | notes |
|---|---|---|---|---|
"""


def row(family: Family) -> str:
    """Return a family's line of the table."""
    with tempfile.TemporaryDirectory() as work:
        folder = family.build(Path(work) / "model")
        if family.refusal:
            try:
                load(folder)
            except ModelError as error:
                reason = str(error).partition(") ")[2].partition(";")[0]
                return f"| {family.name} | refused | refused | | {reason} |"
            raise AssertionError(f"{family.name} is not refused")
        share = f"{load(folder).adaptable_share:.0%}"
        found = check(family, folder, Path(work))
        activated = "works" if found.activated else "no header"
        return f"| {family.name} | {activated} | works | {share} | {found.notes} |"


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for family in FAMILIES:
        assert not family.lacks_template, f"{family.template}.jinja is not at LORABANK_DATA"
        rows.append(row(family))
        print(rows[-1], flush=True)
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
