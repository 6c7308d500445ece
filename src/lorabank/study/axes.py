"""The axes of a cell: what a study may vary, as a typed object for each kind of study.

An axis is checked here; what only a base model can refuse (a layer it lacks, a rank above a layer's
size) is refused when the cell is planned on it. Values that a user leaves out follow from the
others. An axis that has no effect on a cell is None in it, so that no two cells are the same run.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from lorabank.engine.settings import lr_for
from lorabank.errors import UsageError, did_you_mean

MAX_R = 1024
_MAX_SHOWN = 80  # characters of a wrong value in a message
ONE_RENDERING: Mapping[str, Any] = {
    "renderings": "template",
    "margin": 0.0,
    "wordings": 0,
    "protect_share": 0.0,
}
"""Settings of training in studies: questions are trained on as they are asked, nothing else is
kept, and training stops as soon as they are answered, so that what a cell costs and does is what
its axes say."""
LR = "above 0, at most 1; by rank by default"
LAYERS = "0-15, last-10, first-4, 3,5,7 or all"
TARGET_MODULES = "all-linear, attention, ffn or q_proj,v_proj"


class Axes(BaseModel):
    """The axes of one cell.

    A subclass gives each field a `description` of the allowed values, which error messages quote.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    former_names: ClassVar[Mapping[str, str]] = {}
    """Names of axes in files of format 1, by their present names; both are accepted."""
    added: ClassVar[tuple[str, ...]] = ()
    """Axes that older files lack; their default is what those files were run with, and at the
    default they are no part of a cell's name."""
    stand_ins: ClassVar[tuple[str, ...]] = ()
    """Names that a user may give instead of an axis, which `resolve` replaces."""

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> Self:
        """Return a whole cell from the axes that a user gave.

        Raises:
            UsageError: an unknown axis, a value that is not allowed, or two that do not go
                together.
        """
        for name in map(cls.present_name, values):
            if name not in cls.model_fields:
                known = [*cls.model_fields, *cls.stand_ins]
                hint = did_you_mean(name, known, n=2, cutoff=0.5) or "."
                raise UsageError(f"no axis {name!r}{hint} There are {', '.join(known)}")
        try:
            return cls.model_validate(values).normalised()
        except ValidationError as error:
            raise UsageError(cls.explain(error)) from None

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> Self:
        """Return a cell from the axes in a file, which has all of them.

        Raises:
            KeyError: an axis is missing. pydantic.ValidationError: a value that is not allowed.
        """
        for name in cls.model_fields:
            if name not in (*values, *cls.added) and cls.former_names.get(name) not in values:
                raise KeyError(name)
        return cls.model_validate(values)

    def normalised(self) -> Self:
        """Return the cell with axes that have no effect set to None.

        Raises:
            UsageError: two values do not go together.
        """
        return self

    @property
    def short_name(self) -> str:
        """Return the beginning of a cell's name: the axes that are usually varied."""
        raise NotImplementedError

    @property
    def base_name(self) -> str | None:
        """Return the base model that the cell asks for; None for the study's."""
        return None

    def format_1(self) -> dict[str, Any]:
        """Return the axes under their names in files of format 1; cell names are hashes of it."""
        values = {
            name: value
            for name, value in self.model_dump().items()
            if name not in self.added or value != type(self).model_fields[name].default
        }
        return {self.former_names.get(name, name): value for name, value in values.items()}

    def describe(self) -> str:
        """Return all axes with their values, for a message."""
        return ", ".join(f"{k}={v}" for k, v in self.model_dump().items() if v is not None)

    @classmethod
    def present_name(cls, name: str) -> str:
        """Return the present name of an axis that may be given by its name in format 1."""
        return next((new for new, former in cls.former_names.items() if former == name), name)

    @classmethod
    def explain(cls, error: ValidationError) -> str:
        """Return which axis has a wrong value, what it takes and what it got."""
        first = next(e for e in error.errors() if e["type"] != "default_factory_not_called")
        if not first["loc"] or first["loc"][0] not in cls.model_fields:
            return explain_validation(error)
        name = str(first["loc"][0])
        allowed = cls.model_fields[name].description or ""
        if first["type"] == "missing":
            return f"a cell needs {name}: {allowed}"
        words = [word for word in allowed.replace(",", " ").split() if len(word) > 2]
        hint = did_you_mean(str(first["input"])[:_MAX_SHOWN], words, cutoff=0.5)
        return f"{name} takes {allowed}, got {repr(first['input'])[:_MAX_SHOWN]}{hint}"

    @model_validator(mode="before")
    @classmethod
    def _with_present_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {cls.present_name(name): value for name, value in values.items()}


def explain_validation(error: ValidationError) -> str:
    """Return the first problem of pydantic's in one line: what is wrong where, and what it got."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "it"
    return f"{place}: {first['msg']}, got {repr(first['input'])[:_MAX_SHOWN]}"


def satisfies(condition: Callable[[str], bool]) -> AfterValidator:
    """Return a check of a text axis; the axis's description says what is allowed."""

    def check(value: str) -> str:
        if not condition(value):
            raise ValueError("not allowed")
        return value

    return AfterValidator(check)


def one_of(names: Collection[str]) -> AfterValidator:
    """Return a check that a text axis is one of some names."""
    return satisfies(lambda value: value in names)


Text = Annotated[str, satisfies(lambda value: bool(value.strip()))]
"""An axis that takes any text but an empty one."""


def lr_for_rank(axes: dict[str, Any]) -> float:
    """Return the learning rate for the rank of a cell: 1e-3 at rank 8, as `lr_for` goes on."""
    return 1e-3 * lr_for(axes["r"]) / lr_for(8)
