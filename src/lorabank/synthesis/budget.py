"""What a synthesis may spend, and what it has spent.

A request is let through if what it can cost at most still fits: its prompt by estimate and all the
tokens its reply may have. When the reply is there, what it did cost takes the place of that.
"""

from dataclasses import dataclass

from lorabank.errors import UsageError
from lorabank.synthesis.generators import Finish, Reply, Request, estimate_prompt_tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None for none."""

    tokens: int | None = None
    """Of prompts and replies together, as the endpoint counts them."""
    calls: int | None = None

    def __post_init__(self) -> None:
        """Refuse what lets nothing through."""
        for flag, value in (("--budget-tokens", self.tokens), ("--budget-calls", self.calls)):
            if value is not None and value < 1:
                raise UsageError(
                    f"{flag} must be 1 or more, got {value}; leave it out for no limit"
                )


@dataclass(slots=True)
class BudgetMeter:
    """Counts against a budget."""

    budget: Budget
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_flight: int = 0
    """Tokens set aside for requests that are out."""

    def admit(self, request: Request) -> bool:
        """Whether there is room for the request, which then is counted."""
        most = _most(request)
        spent = self.prompt_tokens + self.completion_tokens + self.in_flight
        if self.budget.calls is not None and self.calls >= self.budget.calls:
            return False
        if self.budget.tokens is not None and spent + most > self.budget.tokens:
            return False
        self.calls += 1
        self.in_flight += most
        return True

    def record(self, reply: Reply) -> None:
        self.in_flight -= _most(reply.request)
        if reply.finish is not Finish.FAILED:
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens


def _most(request: Request) -> int:
    return estimate_prompt_tokens(request) + request.max_tokens
