"""Limits on the tokens and calls of a synthesis.

A request is admitted if its highest possible cost still fits: the estimated prompt and all the
tokens its reply may have. The reply's actual cost then replaces this reservation.
"""

from dataclasses import dataclass

from lorabank.errors import UsageError
from lorabank.synthesis.generators import Finish, Reply, Request, estimate_prompt_tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on tokens and calls; None for no limit."""

    tokens: int | None = None
    """Tokens of prompts and replies together, as the endpoint counts them."""
    calls: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that admit no request."""
        for flag, value in (("--budget-tokens", self.tokens), ("--budget-calls", self.calls)):
            if value is not None and value < 1:
                raise UsageError(
                    f"{flag} must be 1 or more, got {value}; leave it out for no limit"
                )


@dataclass(slots=True)
class BudgetMeter:
    """Tokens and calls spent and reserved under a budget."""

    budget: Budget
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    in_flight: int = 0
    """Tokens reserved for requests in flight."""

    def admit(self, request: Request) -> bool:
        """Return whether the budget has room for the request, and reserve its cost if so."""
        cost = _highest_cost(request)
        spent = self.prompt_tokens + self.completion_tokens + self.in_flight
        if self.budget.calls is not None and self.calls >= self.budget.calls:
            return False
        if self.budget.tokens is not None and spent + cost > self.budget.tokens:
            return False
        self.calls += 1
        self.in_flight += cost
        return True

    def record(self, reply: Reply) -> None:
        """Replace a request's reservation by the actual cost of its reply."""
        self.in_flight -= _highest_cost(reply.request)
        if reply.finish is not Finish.FAILED:
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens


def _highest_cost(request: Request) -> int:
    return estimate_prompt_tokens(request) + request.max_tokens
