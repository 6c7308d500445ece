"""Published edits that come with another wording and with a question that reads nearly the same.

WikiBigEdit and zsRE are lists of facts to be taught. Each has a rewording, which a few entries
lack, and a question about something else, whose answer must not change.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, Field

from lorabank.tasks import fields
from lorabank.tasks.fields import Text

_LACKING = "Reformulated"  # stands in the place of a rewording that is not there
_NATURAL_QUESTION = "nq question: "


@dataclass(frozen=True, slots=True)
class RewordedEdit:
    """A fact to be taught."""

    question: str
    answer: str
    subject: str
    reworded: tuple[str, ...]
    """The other wording; empty where the file has none."""
    near_miss: str
    """A question about something else, which the fact does not answer."""
    near_miss_answer: str = ""


class _Entry(fields.Record):
    question: Text = Field(validation_alias=AliasChoices("prompt", "src"))
    answer: Text = Field(validation_alias=AliasChoices("target_new", "alt"))
    subject: Text
    reworded: Text = Field(validation_alias=AliasChoices("rephrase_prompt", "rephrase"))
    near_miss: Text = Field(validation_alias=AliasChoices("locality_prompt", "loc"))
    near_miss_answer: str = Field(
        "", validation_alias=AliasChoices("locality_ground_truth", "loc_ans")
    )


def read_reworded_edits(path: Path) -> list[RewordedEdit]:
    """Return the edits of a WikiBigEdit or zsRE file, in file order.

    Raises:
        DataError: the file is missing or no JSON list, or an entry lacks a field.
    """
    entries = [fields.parse(_Entry, where, raw) for where, raw in fields.read_records(path, "edit")]
    return [
        RewordedEdit(
            entry.question,
            entry.answer,
            entry.subject,
            () if _LACKING in entry.reworded else (entry.reworded,),
            entry.near_miss.removeprefix(_NATURAL_QUESTION),
            entry.near_miss_answer,
        )
        for entry in entries
    ]
