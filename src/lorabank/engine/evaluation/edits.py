"""Scores of edits: is the false target now likelier than the true one, and only where it should be?

Both targets are compared as whole answers, in the form the recipe trains them in. They are compared
once more by their first token alone, which two targets may share: this is what the evaluator
released with arXiv:2603.01097 does.
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
    """Share of the edits' own prompts after which the new target is likelier than the true one."""
    efficacy_published: float | None
    """Efficacy by the first token of each target, as published."""
    paraphrase: float | None
    """Efficacy on the paraphrases of the prompts."""
    neighbourhood: float | None
    """Share of prompts about neighbours after which the true target is still the likelier."""


def score_edits(
    base: Base,
    edits: Sequence[Edit],
    *,
    recipe: str,
    activated: bool,
    fleet: Fleet | None = None,
    slot: int | None = None,
) -> EditScores:
    """Score the adapter in a slot of the entered fleet, or the bare model.

    Args:
        recipe: how prompts and targets are encoded, `sound` or `paper`.
        activated: whether the adapter comes on at the answer.
    """

    def read_targets(
        pairs: list[tuple[str, Edit]], published: bool
    ) -> tuple[list[float], list[float]]:
        """Return -log2 p of each pair's new target, and of its true target."""
        prompts = [
            _encode_target(
                base,
                prompt,
                continuations(edit, published=published)[which],
                recipe=recipe,
                activated=activated,
                first_token_only=published,
            )
            for which in (0, 1)  # the new target, the true one
            for prompt, edit in pairs
        ]
        slots = None if slot is None else [slot] * len(prompts)
        bits = [reading.bits for reading in read_answers(base, prompts, fleet=fleet, slots=slots)]
        return bits[: len(pairs)], bits[len(pairs) :]

    complete = [edit for edit in edits if edit.target_true is not None]
    own = [(edit.prompt, edit) for edit in complete]
    paraphrases = [(prompt, edit) for edit in complete for prompt in edit.paraphrases]
    neighbours = [(prompt, edit) for edit in complete for prompt in edit.neighbourhood]
    return EditScores(
        efficacy=efficacy(*read_targets(own, False)) if own else None,
        efficacy_published=efficacy(*read_targets(own, True)) if own else None,
        paraphrase=efficacy(*read_targets(paraphrases, False)) if paraphrases else None,
        neighbourhood=neighbourhood_score(*read_targets(neighbours, False)) if neighbours else None,
    )


def _encode_target(
    base: Base, prompt: str, target: str, *, recipe: str, activated: bool, first_token_only: bool
) -> EvaluationPrompt:
    """Return a prompt whose answer is the target, or the first token of the target."""
    example = from_pair(prompt, target.strip())
    (encoded,) = encode_dataset(
        base.chat, [example], recipe=recipe, max_tokens=base.max_tokens, activated=activated
    ).prompts
    if not first_token_only:
        return encoded
    return replace(encoded, answer_ids=(base.chat.text_ids(target)[0],), ends_turn=False)
