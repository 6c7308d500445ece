"""Edits scored: does the false target now beat the true one, everywhere it should and nowhere else?

The targets are compared in the form the recipe trains them in, whole; and once more as the
evaluator released with arXiv:2603.01097 has it, by their first token alone, which two targets may
share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_dataset
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.tasks.datasets.counterfact import Edit, continuations, efficacy, neighbourhood_score
from lorabank.tasks.examples import from_pair


@dataclass(frozen=True, slots=True)
class EditScores:
    """Shares of prompts, 0..1; None where no edit has such prompts or a true target."""

    efficacy: float | None
    """Of the edits' own prompts: the new target is likelier than the true one, both whole."""
    efficacy_published: float | None
    """The same by first tokens."""
    paraphrase: float | None
    """As efficacy, of the paraphrases."""
    neighbourhood: float | None
    """Of prompts about neighbours: the true target is still the likelier."""


def score_edits(
    base: Base,
    edits: Sequence[Edit],
    *,
    recipe: str,
    activated: bool,
    fleet: Fleet | None = None,
    slot: int | None = None,
) -> EditScores:
    """Score the adapter in `slot`, or the bare model."""
    whole = [edit for edit in edits if edit.target_true is not None]

    def surprise(prompts: list[tuple[str, Edit]], published: bool) -> tuple[list[float], ...]:
        probes = [
            _probe(base, prompt, edit, i, recipe, activated, published)
            for i in (0, 1)
            for prompt, edit in prompts
        ]
        slots = None if slot is None else [slot] * len(probes)
        bits = [reading.bits for reading in read_answers(base, probes, fleet=fleet, slots=slots)]
        return bits[: len(prompts)], bits[len(prompts) :]

    own = [(edit.prompt, edit) for edit in whole]
    said = [(prompt, edit) for edit in whole for prompt in edit.paraphrases]
    near = [(prompt, edit) for edit in whole for prompt in edit.neighbourhood]
    return EditScores(
        efficacy=efficacy(*surprise(own, False)) if own else None,
        efficacy_published=efficacy(*surprise(own, True)) if own else None,
        paraphrase=efficacy(*surprise(said, False)) if said else None,
        neighbourhood=neighbourhood_score(*surprise(near, False)) if near else None,
    )


def _probe(
    base: Base, prompt: str, edit: Edit, which: int, recipe: str, activated: bool, published: bool
) -> EvaluationPrompt:
    """A prompt with the new (0) or the true (1) target after it."""
    text = continuations(edit, published=published)[which]
    example = from_pair(prompt, text.strip())
    lessons = encode_dataset(
        base.chat, [example], recipe=recipe, max_tokens=base.max_tokens, activated=activated
    )
    probe = lessons.prompts[0]
    if not published:
        return probe
    first = base.chat.tokenizer(text, add_special_tokens=False)["input_ids"][0]
    return replace(probe, answer_ids=(int(first),), ends_turn=False)
