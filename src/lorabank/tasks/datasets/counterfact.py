"""CounterFact: false statements about real things, which must overrule what the model believes.

An edit is a statement's prefix, the false target to learn and the true one to beat, with
paraphrases (does it generalise?) and prompts about neighbours that share the true target (does it
stay local?). `build` invents edits from `relations`, `read_master` reads ROME's counterfact.json,
`read_slice` the slices of arXiv:2603.01097. After CounterFact, arXiv:2202.05262.

There is no `bits` here as there is for phone numbers. A target is not drawn from a known
distribution that the model cannot guess at: it is a plausible word of the relation, which a model
half expects. What learning an edit has to store is the bare model's surprise at the target, so
the engine measures that.
"""

import csv
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import fields
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.synthetic.relations import RELATIONS, Relation

NEIGHBOURS = 2  # subjects of each value held back from editing; prompts per edit
MAX_SIZE = sum(
    len(relation.subjects(value)) - NEIGHBOURS for relation in RELATIONS for value in relation.facts
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One fact to overrule. Texts are rendered from it: `statement`, `continuations`."""

    subject: str
    prompt: str
    """The statement up to its target, the subject filled in, no space at the end."""
    target_new: str
    target_true: str | None = None
    """None where the source does not say: a slice read without the master file."""
    paraphrases: tuple[str, ...] = ()
    """Other prompts that `target_new` should now complete."""
    neighbourhood: tuple[str, ...] = ()
    """Prompts about other subjects that `target_true` should still complete."""
    relation_id: str | None = None
    """Wikidata's property, P17 for a country."""


def build(size: int, *, seed: int) -> tuple[Edit, ...]:
    """Draw `size` edits, no relation of a subject twice, each target another value of the relation.

    A smaller book is a prefix of a larger one with the same seed. Neighbours are never edited,
    whatever the size: in CounterFact a neighbour of one record may be the subject of another, so
    that its right answer changes with what else is in the slice.

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
            kept = rng.sample(subjects, NEIGHBOURS)
            pool += [(relation, s, value, kept) for s in subjects if s not in kept]
    rng.shuffle(pool)  # all of it, before the first target, so that `size` shifts nothing
    return tuple(_invent(*entry, rng) for entry in pool[:size])


def read_master(path: Path) -> tuple[Edit, ...]:
    """All edits of ROME's counterfact.json, in file order.

    `relation_id` may be absent from a record, nothing else.

    Raises:
        DataError: not a file, not a JSON list, or a record that lacks a field, has an empty one or
            the same target twice; the message names the record, counting from 1.
    """
    records = fields.read_json(path)
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: must be a JSON list of records, as ROME's counterfact.json is")
    return tuple(_from_record(f"{path}, record {i}", raw) for i, raw in enumerate(records, start=1))


def read_slice(path: Path, master: Sequence[Edit] | None = None) -> tuple[Edit, ...]:
    """The edits of a published slice: `NAME.csv` (column text) with `NAME_meta.json` (subjects).

    A row does not say where its target begins. With `master` it is looked up there, so that
    the edit is complete. Without, the last word is the target and nothing else is known: right
    for all 1,080 rows of the slices up to 10K tokens, where targets are single words (languages,
    places, makers, sports, posts), even after endings as rare as "Spain's capital city, Valencia".
    A target of several words cannot be split so. It is refused where its first word would leave a
    capital at the end of the prompt ("in New" + "York") and goes unseen where it would not ("plays
    ice" + "hockey"); give the master for such rows.

    Raises:
        DataError: a file that cannot be read, other counts of rows and subjects, or rows that
            cannot be split or are not in `master`; the message counts them, shows the first.
    """
    rows = _read_rows(path)
    if master is None:
        edits = [_split(subject, text) for subject, text in rows]
        fault = "cannot be split into prompt and target; give the master file"
    else:
        known = {(edit.subject, render_statement(edit)): edit for edit in master}
        edits = [known.get(row) for row in rows]
        fault = "not in the master file; give the counterfact.json the slice was cut from"
    lost = [text for (_, text), edit in zip(rows, edits, strict=True) if edit is None]
    if lost:
        raise DataError(f"{path}: {len(lost)} of {len(rows)} rows {fault}; first: {lost[0]!r}")
    return tuple(edit for edit in edits if edit is not None)


def render_statement(edit: Edit) -> str:
    """The false statement as the paper trains on it: no full stop."""
    return f"{edit.prompt} {edit.target_new}"


def as_examples(edits: Sequence[Edit]) -> list[Example]:
    """Edits to train on and ask for like any other example: the prompt is the user's turn.

    Raises:
        DataError: two edits with one prompt.
    """
    seen: set[str] = set()
    for edit in edits:
        if edit.prompt in seen:
            raise DataError(
                f"each prompt may stand once; {edit.prompt!r} is edited twice; keep one"
            )
        seen.add(edit.prompt)
    return [from_pair(edit.prompt, edit.target_new) for edit in edits]


def continuations(edit: Edit, *, published: bool) -> tuple[str, str]:
    """The texts (new, true) whose surprise after a prompt of `edit` is compared.

    Sound: with the leading space that follows a prompt, to be scored whole. Published: without it,
    to be scored by the first token only, which is another token than training taught and may be
    one that both targets begin with.

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
    """Share of prompts, 0..1, after which the false target surprises less than the true one.

    Asked with the edits' own prompts this is efficacy, with their paraphrases generalisation.
    Ties fail, as published; so does a NaN.

    Args:
        nats_new, nats_true: surprise at the `continuations`, one of each for a prompt.

    Raises:
        UsageError: none, or not as many of one as of the other.
    """
    return fmean(new < true for new, true in _pairs(nats_new, nats_true))


def neighbourhood_score(nats_new: Sequence[float], nats_true: Sequence[float]) -> float:
    """Share of neighbourhood prompts, 0..1, after which the true target surprises less; ties fail.

    Arguments and errors as for `efficacy`.
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
    relation: Relation, subject: str, true: str, kept: list[str], rng: random.Random
) -> Edit:
    return Edit(
        subject,
        relation.statement.format(subject),
        rng.choice([value for value in relation.facts if value != true]),
        true,
        tuple(template.format(subject) for template in relation.paraphrases),
        tuple(relation.statement.format(neighbour) for neighbour in kept),
        relation.id,
    )


def _from_record(where: str, raw: object) -> Edit:
    if isinstance(raw, dict) and "case_id" in raw:
        where = f"{where} (case_id {raw['case_id']})"
    prompt = fields.text(where, raw, "requested_rewrite", "prompt")
    if "{}" not in prompt:
        raise DataError(f"{where}: the prompt needs {{}} where the subject goes, got {prompt!r}")
    subject = fields.text(where, raw, "requested_rewrite", "subject")
    new = fields.text(where, raw, "requested_rewrite", "target_new", "str")
    true = fields.text(where, raw, "requested_rewrite", "target_true", "str")
    if new == true:
        raise DataError(f"{where}: target_new and target_true are both {new!r}; drop the record")
    relation_id = raw["requested_rewrite"].get("relation_id") if isinstance(raw, dict) else None
    return Edit(
        subject,
        prompt.replace("{}", subject),  # not format: a subject may hold braces
        new,
        true,
        fields.texts(where, raw, "paraphrase_prompts"),
        fields.texts(where, raw, "neighborhood_prompts"),
        relation_id if isinstance(relation_id, str) else None,
    )


def _split(subject: str, text: str) -> Edit | None:
    prompt, _, target = text.rpartition(" ")
    if not target or subject not in prompt or prompt.split()[-1][0].isupper():
        return None
    return Edit(subject, prompt, target)


def _read_rows(path: Path) -> list[tuple[str, str]]:
    """(subject, text) of each row."""
    reader = csv.DictReader(io.StringIO(fields.read_text(path), newline=""), strict=True)
    try:
        texts = [row.get("text") or "" for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row: {error}") from None
    if not all(texts) or not texts:
        raise DataError(f"{path}: needs the column text with a statement in every row")
    beside = path.with_name(f"{path.stem}_meta.json")
    subjects = fields.texts(str(beside), fields.read_json(beside), "subjects")
    if len(subjects) != len(texts):
        raise DataError(
            f"{beside}: needs one subject for each row of {path.name}, "
            f"got {len(subjects)} for {len(texts)} rows; take both from the same release"
        )
    return list(zip(subjects, texts, strict=True))
