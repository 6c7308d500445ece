"""CounterFact: false statements about real things, which must overrule what the model believes.

An edit is the prefix of a statement, the false target to learn and the true target to overrule,
with paraphrases (does the edit generalise?) and prompts about neighbours that share the true target
(does it stay local?). `build` invents edits from `relations`, `read_master` reads ROME's
counterfact.json, `read_slice` the slices of arXiv:2603.01097. After CounterFact, arXiv:2202.05262.

An edit that was built has the entropy of its draw: its false target is one of its relation's other
values, all as likely. Of edits from a file nobody knows how their targets were drawn; there the
base model's surprise at the target, which the engine measures, is the most an adapter had to store.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import AliasPath, Field

from lorabank.errors import DataError, UsageError
from lorabank.tasks import fields
from lorabank.tasks.csv_rows import read_csv
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.fields import Text, Texts
from lorabank.tasks.synthetic.relations import RELATIONS, Relation

NEIGHBOURS = 2  # subjects of each value held back from editing; prompts per edit
MAX_SIZE = sum(
    len(relation.subjects(value)) - NEIGHBOURS for relation in RELATIONS for value in relation.facts
)


@dataclass(frozen=True, slots=True)
class Edit:
    """A fact to overrule. Texts are rendered from it, never parsed back."""

    subject: str
    prompt: str
    """Statement up to its target, with the subject filled in and no space at the end."""
    target_new: str
    target_true: str | None = None
    """True target; None in a slice that was read without the master file."""
    paraphrases: tuple[str, ...] = ()
    """Other prompts that `target_new` should now complete."""
    neighbourhood: tuple[str, ...] = ()
    """Prompts about other subjects that `target_true` should still complete."""
    relation_id: str | None = None
    """Property of Wikidata, such as P17 for a country."""


def build(size: int, *, seed: int) -> tuple[Edit, ...]:
    """Draw `size` edits; each false target is another value of its relation.

    No relation of a subject is edited twice. A smaller list is a prefix of a larger one with the
    same seed. Neighbours are never edited, whatever the size: in CounterFact a neighbour in one
    record may be the subject of another, so that its right answer depends on the slice.

    Raises:
        UsageError: `size` is not in 1..MAX_SIZE.
    """
    if not 1 <= size <= MAX_SIZE:
        raise UsageError(f"number of edits must be 1..{MAX_SIZE:,}, got {size:,}")
    rng = random.Random(f"counterfact/{seed}")
    pool: list[tuple[Relation, str, str, list[str]]] = []
    for relation in RELATIONS:
        for value in relation.facts:
            subjects = relation.subjects(value)
            neighbours = rng.sample(subjects, NEIGHBOURS)
            pool += [(relation, s, value, neighbours) for s in subjects if s not in neighbours]
    rng.shuffle(pool)  # all of it, before the first target, so that `size` shifts nothing
    return tuple(_invent(*entry, rng) for entry in pool[:size])


def drawn_bits(edit: Edit) -> float:
    """Return the entropy, in bits, of the draw of a built edit's false target.

    Raises:
        UsageError: the edit was not built from these relations.
    """
    for relation in RELATIONS:
        if relation.id == edit.relation_id and edit.target_true in relation.facts:
            return math.log2(len(relation.facts) - 1)
    raise UsageError(
        f"the edit of {edit.subject!r} was read from a file; only built ones are drawn"
    )


def read_master(path: Path) -> tuple[Edit, ...]:
    """Read all edits of ROME's counterfact.json, in file order.

    Only `relation_id` may be absent from a record.

    Raises:
        DataError: the file is missing or not a JSON list, or a record lacks a field, has an empty
            one, or has equal targets; the message names the record, counting from 1.
    """
    return tuple(_from_record(where, raw) for where, raw in fields.read_records(path, "record"))


def read_slice(path: Path, master: Sequence[Edit] | None = None) -> tuple[Edit, ...]:
    """Read a published slice: `NAME.csv` (column text) with `NAME_meta.json` (subjects).

    A row does not mark where its target begins. With `master` the edit is looked up there and
    complete. Without it the last word is taken as the target and nothing else is known. That is
    right for all 1,080 rows of the slices up to 10K tokens, whose targets are single words
    (languages, places, makers, sports, posts). A target of several words is refused where its
    first word would leave a capital at the end of the prompt ("in New" + "York") and is split
    wrongly elsewhere ("plays ice" + "hockey"); give the master for such rows.

    Raises:
        DataError: a file cannot be read, the counts of rows and subjects differ, or rows cannot be
            split or are not in `master`; the message counts them and shows the first.
    """
    rows = _read_rows(path)
    if master is None:
        edits = [_split(subject, text) for subject, text in rows]
        fault = "cannot be split into prompt and target; give the master file"
    else:
        known = {(edit.subject, render_statement(edit)): edit for edit in master}
        edits = [known.get(row) for row in rows]
        fault = "not in the master file; give the counterfact.json the slice was taken from"
    lost = [text for (_, text), edit in zip(rows, edits, strict=True) if edit is None]
    if lost:
        raise DataError(f"{path}: {len(lost)} of {len(rows)} rows {fault}; first: {lost[0]!r}")
    return tuple(edit for edit in edits if edit is not None)


def render_statement(edit: Edit) -> str:
    """Return the false statement as the paper trains on it, without a full stop."""
    return f"{edit.prompt} {edit.target_new}"


def as_examples(edits: Sequence[Edit]) -> list[Example]:
    """Return edits as examples to train on and to ask for: the prompt is the user's turn.

    Raises:
        DataError: two edits have the same prompt.
    """
    seen: set[str] = set()
    for edit in edits:
        if edit.prompt in seen:
            raise DataError(
                f"each prompt may occur only once; {edit.prompt!r} is edited twice; keep one"
            )
        seen.add(edit.prompt)
    return [from_pair(edit.prompt, edit.target_new) for edit in edits]


def continuations(edit: Edit, *, published: bool) -> tuple[str, str]:
    """Return the texts (new, true) whose surprise after a prompt of `edit` is compared.

    Args:
        published: leave out the space that follows a prompt, and score the first token only. That
            is not the token that training taught, and both targets may begin with it. Without
            `published` the texts begin with the space and are scored whole.

    Raises:
        UsageError: the edit has no true target.
    Source: the efficacy evaluator released with arXiv:2603.01097.
    """
    if edit.target_true is None:
        raise UsageError(
            f"{edit.prompt!r} has no true target to compare with; read the slice with its master "
            "file, or build the edits"
        )
    space = "" if published else " "
    return space + edit.target_new, space + edit.target_true


def efficacy(nats_new: Sequence[float], nats_true: Sequence[float]) -> float:
    """Return the share of prompts, 0..1, after which the false target surprises less.

    With the edits' own prompts this is efficacy, with their paraphrases generalisation. Ties fail,
    as published; so does a NaN.

    Args:
        nats_new, nats_true: surprise at the `continuations`, one of each for a prompt.

    Raises:
        UsageError: there are no values, or the two numbers of values differ.
    """
    return fmean(new < true for new, true in _pairs(nats_new, nats_true))


def neighbourhood_score(nats_new: Sequence[float], nats_true: Sequence[float]) -> float:
    """Return the share of neighbourhood prompts, 0..1, after which the true target surprises less.

    Ties fail. Arguments and errors are those of `efficacy`.
    """
    return fmean(true < new for new, true in _pairs(nats_new, nats_true))


def _pairs(nats_new: Sequence[float], nats_true: Sequence[float]) -> list[tuple[float, float]]:
    if len(nats_new) != len(nats_true) or not nats_new:
        raise UsageError(
            "needs as many surprises at new targets as at true ones, at least one; "
            f"got {len(nats_new)} against {len(nats_true)}"
        )
    return list(zip(nats_new, nats_true, strict=True))


def _invent(
    relation: Relation, subject: str, true: str, neighbours: list[str], rng: random.Random
) -> Edit:
    return Edit(
        subject,
        relation.statement.format(subject),
        rng.choice([value for value in relation.facts if value != true]),
        true,
        tuple(template.format(subject) for template in relation.paraphrases),
        tuple(relation.statement.format(neighbour) for neighbour in neighbours),
        relation.id,
    )


class _Rewrite(fields.Record):
    prompt: Text
    subject: Text
    target_new: Text = Field(validation_alias=AliasPath("target_new", "str"))
    target_true: Text = Field(validation_alias=AliasPath("target_true", "str"))
    relation_id: object = None


class _MasterRecord(fields.Record):
    requested_rewrite: _Rewrite
    paraphrase_prompts: Texts
    neighborhood_prompts: Texts


def _from_record(where: str, raw: object) -> Edit:
    where = fields.name_record(where, raw, "case_id")
    record = fields.parse(_MasterRecord, where, raw)
    rewrite = record.requested_rewrite
    if "{}" not in rewrite.prompt:
        raise DataError(
            f"{where}: the prompt needs {{}} where the subject goes, got {rewrite.prompt!r}"
        )
    if rewrite.target_new == rewrite.target_true:
        raise DataError(
            f"{where}: target_new and target_true are both {rewrite.target_new!r}; drop the record"
        )
    return Edit(
        rewrite.subject,
        rewrite.prompt.replace("{}", rewrite.subject),  # not format: a subject may hold braces
        rewrite.target_new,
        rewrite.target_true,
        record.paraphrase_prompts,
        record.neighborhood_prompts,
        rewrite.relation_id if isinstance(rewrite.relation_id, str) else None,
    )


def _split(subject: str, text: str) -> Edit | None:
    prompt, _, target = text.rpartition(" ")
    if not target or subject not in prompt or prompt.split()[-1][0].isupper():
        return None
    return Edit(subject, prompt, target)


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """Return (subject, text) for each row."""
    texts = [row.get("text", "") for _, row in read_csv(path, single=("text",)).rows]
    if not all(texts) or not texts:
        raise DataError(f"{path}: needs the column text with a statement in every row")
    meta = path.with_name(f"{path.stem}_meta.json")
    subjects = fields.texts(str(meta), fields.read_json(meta), "subjects")
    if len(subjects) != len(texts):
        raise DataError(
            f"{meta}: needs one subject for each row of {path.name}, "
            f"got {len(subjects)} for {len(texts)} rows; take both from the same release"
        )
    return list(zip(subjects, texts, strict=True))
