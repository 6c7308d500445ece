"""Whether answers are recalled under every rendering of their prompts, and by how much.

An answer whose tokens only just lead is lost where arithmetic is a little different: in another
precision, batch or program. So training asks by how much they lead.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import (
    EncodedDataset,
    EvaluationPrompt,
    RenderedForm,
    encode_dataset,
)
from lorabank.engine.encoding.mixed_renderings import add_renderings
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import (
    AnswerReading,
    read_answers,
    recall_share,
)
from lorabank.errors import DataError
from lorabank.tasks.examples import Example

REWORDED = "reworded"
"""Name of the form that the held-out wordings of examples are."""
Place = tuple[int, int]
"""Number of a form among a dataset's forms, and of an example: one prompt of the dataset."""


@dataclass(frozen=True, slots=True, order=True)
class RecallCheck:
    """Shares of a dataset that are recalled; the greater recalls more, or as much more securely."""

    recall: float
    """Share of examples whose answers are recalled under every rendering asked."""
    secure: float
    """Share of examples whose tokens also lead by the margin under every rendering."""
    insecure: tuple[Place, ...] = field(default=(), compare=False)
    """The prompts whose answers do not lead by the margin."""


def check_recall(
    base: Base,
    dataset: EncodedDataset,
    margin: float,
    *,
    fleet: Fleet | None = None,
    slot: int = 0,
) -> RecallCheck:
    """Ask for all examples under all renderings and wordings that the dataset holds.

    Args:
        margin: nats by which the tokens of a secure answer lead every other token.
        fleet: the entered fleet, of which `slot` answers; None for what is around the base.
    """
    readings = list(read_forms(base, dataset.forms, fleet=fleet, slot=slot).values())
    leads = smallest_leads(readings)
    n = len(leads)
    return RecallCheck(
        sum(lead >= 0 for lead in leads) / n,
        sum(lead >= margin for lead in leads) / n,
        tuple(
            (form, example)
            for form, of_form in enumerate(readings)
            for example, reading in enumerate(of_form)
            if reading.lead < margin
        ),
    )


def still_insecure(
    base: Base,
    dataset: EncodedDataset,
    margin: float,
    places: Sequence[Place],
    *,
    fleet: Fleet | None = None,
    slot: int = 0,
) -> tuple[Place, ...]:
    """Ask again for the answers that an earlier check found insecure; return those that still are.

    This is a small part of a check, and tells whether a whole one can succeed.
    """
    prompts = [dataset.forms[form].prompts[example] for form, example in places]
    slots = None if fleet is None else [slot] * len(prompts)
    readings = read_answers(base, prompts, fleet=fleet, slots=slots)
    return tuple(
        place for place, reading in zip(places, readings, strict=True) if reading.lead < margin
    )


def encode_forms(
    base: Base, examples: Sequence[Example], recipe: str, *, activated: bool
) -> tuple[RenderedForm, ...]:
    """Return examples in every form in which programs render them, the template's own first.

    Raises:
        DataError: an example longer than the model's context.
    """
    dataset = encode_dataset(
        base.chat, examples, recipe=recipe, max_tokens=base.max_tokens, activated=activated
    )
    if recipe == "sound":
        dataset = add_renderings(
            dataset, base.chat, examples, max_tokens=base.max_tokens, activated=activated
        )
    return dataset.forms


def held_out_form(
    base: Base, examples: Sequence[Example], recipe: str, *, activated: bool
) -> RenderedForm:
    """Return the held-out wordings of examples to be asked, one fact after the other.

    Those that are too long for the model are left out.
    """
    prompts = [
        prompt
        for example in examples
        for text in example.held_out
        for prompt in _prompts_asked_as(base, example, text, recipe, activated=activated)
    ]
    return RenderedForm(REWORDED, (), tuple(prompts))


def read_forms(
    base: Base, forms: Sequence[RenderedForm], *, fleet: Fleet | None = None, slot: int = 0
) -> dict[str, Sequence[AnswerReading]]:
    """Read the answers of examples in each form, by the forms' names."""
    prompts = list(dict.fromkeys(prompt for form in forms for prompt in form.prompts))
    slots = None if fleet is None else [slot] * len(prompts)
    readings = read_answers(base, prompts, fleet=fleet, slots=slots)
    reading_of = dict(zip(prompts, readings, strict=True))
    return {form.name: [reading_of[prompt] for prompt in form.prompts] for form in forms}


def smallest_leads(readings: Iterable[Sequence[AnswerReading]]) -> list[float]:
    """Return each example's smallest lead in nats over its readings under several renderings."""
    return [min(reading.lead for reading in of_one) for of_one in zip(*readings, strict=True)]


def recall_by_rendering(readings: Mapping[str, Sequence[AnswerReading]]) -> dict[str, float]:
    """Return the share of answers recalled in each form, by the forms' names."""
    return {name: recall_share(of_form) for name, of_form in readings.items()}


def recalled_in_any_form(
    base: Base, examples: Sequence[Example], *, fleet: Fleet | None = None, activated: bool = False
) -> list[bool]:
    """Return for each example whether its answer is recalled in at least one form.

    Asked are the example's own wording under every rendering, and each other wording that is
    stored with it under the template's own; wordings too long for the model are left out.

    Args:
        fleet: the entered fleet whose first adapter answers; None for the bare base.
        activated: whether that adapter is.
    """
    forms = encode_forms(base, examples, "sound", activated=activated)
    reworded = [
        (i, prompt)
        for i, example in enumerate(examples)
        for text in (*example.also, *example.held_out)
        for prompt in _prompts_asked_as(base, example, text, "sound", activated=activated)
    ]
    readings = read_forms(
        base,
        (*forms, RenderedForm(REWORDED, (), tuple(prompt for _, prompt in reworded))),
        fleet=fleet,
    )
    of_wordings = readings.pop(REWORDED)
    hits = [
        any(reading.recalled for reading in row) for row in zip(*readings.values(), strict=True)
    ]
    for (i, _), reading in zip(reworded, of_wordings, strict=True):
        hits[i] = hits[i] or reading.recalled
    return hits


def _prompts_asked_as(
    base: Base, example: Example, text: str, recipe: str, *, activated: bool
) -> tuple[EvaluationPrompt, ...]:
    """Return an example's question in another wording; none if it is too long for the model."""
    with suppress(DataError):
        return encode_dataset(
            base.chat,
            [example.asked_as(text)],
            recipe=recipe,
            max_tokens=base.max_tokens,
            activated=activated,
        ).prompts
    return ()
