"""Cache keys are pinned: replies that were paid for must be found again by later versions."""

import pytest

from lorabank.synthesis.answer_judge import JudgedAnswer
from lorabank.synthesis.answer_judge import request_for as judge_request
from lorabank.synthesis.endpoint import Endpoint
from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Request, SamplingOptions, cache_key
from lorabank.synthesis.prompts import QuestionFocus, request_for
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import Message

GENERATOR = Endpoint("m", base_url="http://Host:80/v1/", key="k")
SOURCE = SourceText("a.md", "A", "part 1 of 2 of “A”", "“A”", "Set-up", "Gate AB is red.")
SAMPLING = SamplingOptions(temperature=0.7, top_p=0.9, seed=1)
FOCUS = QuestionFocus(["Gate AB is red."], ["Which gate?"])

KEYS = {
    "plain": "7d46885841484639",
    "judge": "2df0528134ce6037",
    "qa": "43e4ecab053e72cc",
    "summary": "00ca22cf6cc6d954",
    "rewrite": "9c473a284b6cb6bd",
    "implications": "388a3f417ccd62a3",
    "paraphrase": "360e535e273e388e",
    "reverse": "add3ebd10796ffa3",
}


def keys() -> dict[str, str]:
    """Return the beginning of the key of one request of each kind."""
    requests = {
        "plain": Request((Message("user", "Say 1"),), 20),
        "judge": judge_request(JudgedAnswer("q", ("g", "h"), "t"), as_json=True, seed=3),
    }
    for kind in FormatKind:
        if kind is not FormatKind.ORIGINAL:
            requests[kind] = request_for(
                SOURCE, kind, 3, as_json=True, sampling=SAMPLING, focus=FOCUS
            )
    return {name: cache_key(GENERATOR, request)[:16] for name, request in requests.items()}


def test_the_name_of_an_endpoint_has_its_model_and_address():
    assert GENERATOR.name == "openai:m@http://Host:80/v1"


@pytest.mark.parametrize("name", ["plain", "judge", *sorted(set(FormatKind) - {"original"})])
def test_cache_keys_are_those_of_the_first_version(name: str):
    assert keys()[name] == KEYS[name]
