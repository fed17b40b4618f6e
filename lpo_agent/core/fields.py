"""Declares options once, for the command line, TOML files, MCP tools and the documentation.

A model declares each option as a field, with :func:`option`. :func:`options_of` returns the declarations, from which
everything else is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core.core_schema import no_info_wrap_validator_function

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetCoreSchemaHandler, ValidatorFunctionWrapHandler
    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema, ErrorDetails

KEY: Final = "option"
"""The key under which a field keeps the arguments of :func:`option`, in its ``json_schema_extra``."""
LIMITS: Final = ("ge", "gt", "le", "lt")
SHOWN: Final = 80
"""The highest number of characters of an invalid value in a message."""


def option(
    default: Any,
    text: str,
    *,
    metavar: str | None = None,
    unit: str = "",
    group: str = "",
    commands: tuple[str, ...] = (),
    flag: str | None = None,
    choices: tuple[str, ...] = (),
    unset: str = "",
    formerly: str | None = None,
    **limits: float,
) -> Any:
    """Declare a field with its default (``...`` if it is required) and a short description.

    ``commands``: the commands of `lpo` that have the option. ``flag``: its name there, if it differs from that of the
    field. ``choices``: the possible values, if the type does not have them. ``unset``: the meaning of None.
    ``formerly``: an older name that is still accepted. ``limits``: ge, gt, le, lt.
    """
    said = {
        "metavar": metavar,
        "unit": unit,
        "group": group,
        "commands": list(commands),
        "flag": flag,
        "choices": list(choices),
        "unset": unset,
        "formerly": formerly,
    }
    extra: dict[str, Any] = {KEY: said}
    bounds: dict[str, Any] = {**limits}
    return Field(default=default, description=text, json_schema_extra=extra, **bounds)


@dataclass(frozen=True, slots=True)
class Option:
    """The declaration of an option. ``path``: the name of its field, after that of the model that contains it."""

    path: tuple[str, ...]
    kind: Any
    default: Any
    required: bool
    text: str
    metavar: str | None = None
    unit: str = ""
    group: str = ""
    commands: tuple[str, ...] = ()
    own_flag: str | None = None
    choices: tuple[str, ...] = ()
    unset: str = ""
    formerly: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in Python, such as ``budget_calls``."""
        return "_".join(self.path)

    @property
    def key(self) -> str:
        """The name in a TOML file."""
        return self.name.replace("_", "-")

    @property
    def inverted(self) -> bool:
        """Whether the option is on by default and `--no-...` turns it off."""
        return self.kind is bool and self.default is True

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return f"--{'no-' if self.inverted else ''}{self.own_flag or self.key}"

    @property
    def is_table(self) -> bool:
        """Whether its value is a mapping of names that the caller chooses."""
        return get_origin(self.kind) is dict

    @property
    def is_list(self) -> bool:
        """Whether its value is any number of values."""
        return get_origin(self.kind) in {tuple, list}

    @property
    def range(self) -> str:
        """The possible values as text: the choices, or the limits of a number."""
        if self.choices:
            return ", ".join(self.choices)
        bounds = {name: f"{value:,}" if isinstance(value, int) else f"{value:g}" for name, value in self.limits.items()}
        low = next((f"{word} {bounds[name]}" for name, word in _LOW if name in bounds), "")
        high = next((f"{word} {bounds[name]}" for name, word in _HIGH if name in bounds), "")
        if low.startswith("at least ") and high.startswith("at most "):
            return f"{low.removeprefix('at least ')} to {high.removeprefix('at most ')}"
        return ", ".join(filter(None, (low, high)))

    def meaning(self, unset: str | None = None) -> str:
        """Return the description with unit and default; ``unset`` replaces the meaning of None."""
        text = f"{self.text}, in {self.unit}" if self.unit else self.text
        return f"{text} (default: {default})" if (default := unset or self.shown_default) else text

    @property
    def shown_default(self) -> str:
        """The default as text, empty if there is none."""
        if self.default is None:
            return self.unset
        return "" if self.required or isinstance(self.default, (bool, dict, tuple)) else f"{self.default}"


_LOW: Final = (("ge", "at least"), ("gt", "more than"))
_HIGH: Final = (("le", "at most"), ("lt", "less than"))


class OptionModel(BaseModel):
    """A frozen model of options that raises ConfigError with the name of the option as the user writes it.

    ``prefix``: the prefix of the names if the model is part of another one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    prefix: ClassVar[str] = ""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wrap all validators, including those of the whole model, which a validator in this class could not."""
        return no_info_wrap_validator_function(cls._check, handler(source))

    @classmethod
    def _check(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(renamed(cls, given) if isinstance(given, Mapping) else given)
        except ValidationError as exc:
            raise ConfigError("; ".join(_complaints(cls, exc))) from None


@cache
def options_of(model: type[BaseModel]) -> tuple[Option, ...]:
    """Return the options of a model, in order; a field that is itself such a model is replaced by its options."""
    return tuple(found for name, info in model.model_fields.items() for found in _options(name, info))


def _options(name: str, info: FieldInfo) -> Iterator[Option]:
    extra = info.json_schema_extra
    said: dict[str, Any] = dict(extra.get(KEY, {})) if isinstance(extra, dict) else {}  # type: ignore[arg-type]
    group, commands = said.get("group", ""), tuple(said.get("commands", ()))
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
        for inner in options_of(info.annotation):
            yield _moved(inner, name, group, commands)
        return
    yield Option(
        path=(name,),
        kind=info.annotation,
        default=info.default,
        required=info.is_required(),
        text=info.description or "",
        metavar=said.get("metavar"),
        unit=said.get("unit", ""),
        group=group,
        commands=commands,
        own_flag=said.get("flag"),
        choices=tuple(said.get("choices", ())) or _literals(info.annotation),
        unset=said.get("unset", ""),
        formerly=said.get("formerly"),
        limits={key: getattr(part, key) for part in info.metadata for key in LIMITS if hasattr(part, key)},
    )


def _moved(inner: Option, name: str, group: str, commands: tuple[str, ...]) -> Option:
    return replace(inner, path=(name, *inner.path), group=inner.group or group, commands=inner.commands or commands)


def _literals(kind: Any) -> tuple[str, ...]:
    """Return the choices of a Literal, or of an optional Literal."""
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(choice for part in get_args(kind) if part is not NoneType for choice in _literals(part))


def renamed(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with older names replaced by the present ones."""
    older = {found.formerly: found.name for found in options_of(model) if found.formerly}
    return {older[name] if name in older and older[name] not in given else name: given[name] for name in given}


@cache
def spellings(model: type[BaseModel]) -> dict[str, Option]:
    """Return the options by all of their accepted names, with underscores for dashes."""
    found: dict[str, Option] = {}
    for each in options_of(model):
        for name in (each.name, each.formerly, f"no_{each.name}" if each.inverted else None):
            if name is not None:
                found[name] = each
    return found


def field_of(model: type[BaseModel], written: str) -> str | None:
    """Return the field that contains an option, whatever the spelling; None if there is no such option."""
    name = written.replace("-", "_")
    found = spellings(model).get(name)
    return found.path[0] if found else name if name in model.model_fields else None


def by_field(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by the names of the model's fields, whatever their spelling; unknown names are not changed.

    ``budget-calls = 5`` becomes ``budget = {calls: 5}``, ``no-cache = true`` becomes ``cache = False``.
    Raises ConfigError if a table is expected but not given, and if `no-...` is neither true nor false.
    """
    known, found = spellings(model), dict[str, Any]()
    tables = {each.path[0] for each in known.values() if each.is_table or len(each.path) > 1}
    for written, value in given.items():
        name = written.replace("-", "_")
        one = known.get(name)
        place = one.path[0] if one else name
        if one and len(one.path) > 1:
            found[place] = found.get(place, {}) | {one.path[1]: value}
        elif place in tables:
            found[place] = _table(written, value) | found.get(place, {})
        else:
            found[place] = not _truth(written, value) if one and name == f"no_{one.name}" else value
    return found


def _table(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must be a table of names and values")
    return value


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false")
    return value


def argument(found: Option, text: str | None = None, *, unset: str | None = None, **limits: float) -> FieldInfo:
    """Return an option's description and range for the argument of a tool; the arguments replace parts of them."""
    words = text or found.text + (f", in {found.unit}" if found.unit else "")
    meant = found.unset if unset is None else unset
    description = f"{words[:1].upper()}{words[1:]}{f'; default: {meant}' if meant else ''}."
    named = [*found.choices, None] if NoneType in get_args(found.kind) else [*found.choices]
    extra: dict[str, Any] | None = {"enum": named} if found.choices else None
    bounds: dict[str, Any] = {**found.limits, **limits}
    info: FieldInfo = Field(description=description, json_schema_extra=extra, **bounds)
    return info


def _complaints(model: type[OptionModel], problem: ValidationError) -> list[str]:
    """Return the error message, with one sentence for each invalid option."""
    known = {found.name: found for found in options_of(model) if len(found.path) == 1}
    found: dict[str, str] = {}
    for error in problem.errors():
        where = _place(model, known, error["loc"])
        found.setdefault(where, _complaint(model, where, error))
    return list(found.values())


def _place(model: type[OptionModel], known: Mapping[str, Option], place: tuple[int | str, ...]) -> str:
    """Return the option as the user writes it, with the invalid row or name in it."""
    if not place:
        return model.prefix
    name, *rest = place
    one = known.get(str(name))
    words = [model.prefix, one.own_flag or one.key if one else str(name)]
    flag = ("--" if model.prefix or (one and one.commands) else "") + "-".join(filter(None, words)).replace("_", "-")
    if one and one.is_table:
        rest = rest[:1]
    return " ".join([flag, *(f"row {part + 1}" if isinstance(part, int) else part for part in rest)])


def _near(model: type[OptionModel], error: ErrorDetails) -> str:
    """Return the option that was probably meant, as part of a sentence."""
    *above, name = error["loc"]
    known = {found.path[-1]: found.key for found in options_of(model) if found.path[:-1] == tuple(above)}
    close = get_close_matches(str(name), known, 1)
    prefix = f"{model.prefix}-" if model.prefix and not above else ""
    return f"; did you mean {f'{prefix}{known[close[0]]}'!r}?" if close else ""


def _complaint(model: type[OptionModel], where: str, error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return f"{where} is required"
    if error["type"] == "extra_forbidden":
        return f"unknown option {where.removeprefix('--')!r}{_near(model, error)}"
    text = error["msg"].removeprefix("Value error, ")
    if not where:
        return text
    given = error["input"]
    shown = f" (got {given!r})" if isinstance(given, (str, int, float)) and len(str(given)) < SHOWN else ""
    return f"{where}: {text[:1].lower()}{text[1:]}{shown}"
