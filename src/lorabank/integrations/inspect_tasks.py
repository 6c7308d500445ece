"""A module's exported questions as tasks of inspect-ai.

    from inspect_ai import eval
    eval(held_out("FOLDER/NAME.jsonl"), model="openai-api/lorabank/memory", model_base_url=URL)

`lorabank export-eval` writes the questions. Any of inspect's models can be asked; a server of
lorabank is one of OpenAI's API. Needs the extra `inspect-ai`.
"""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import match
from inspect_ai.solver import generate

_FIELDS = FieldSpec(input="question", target="answer", metadata=["fact"])


@task
def held_out(questions: str) -> Task:
    """Ask a module's held-out wordings; a reply counts that is the answer, case aside."""
    return _task(questions, "exact")


@task
def near_misses(questions: str) -> Task:
    """Ask after names that nobody taught; a reply counts that begins with a refusal."""
    return _task(questions, "begin")


def _task(questions: str, location: str) -> Task:
    path = Path(questions).resolve()
    return Task(
        dataset=json_dataset(str(path), _FIELDS),
        solver=generate(),
        scorer=match(location=location),
        config=GenerateConfig(temperature=0.0),
        name=path.stem,
    )
