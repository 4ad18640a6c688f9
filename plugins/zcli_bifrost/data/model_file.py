"""From a YAML file or a mapping to models. All mistakes are reported at once.

.. code-block:: yaml

    tasks:
      fields:
        title: {type: text, required: true, max_length: 200}
        state: {type: text, enum: [open, done], default: open}
        due: datetime                   # short for {type: datetime}
        project: {references: projects} # the type is that of the key of projects
        author: text
      owner: author
      all_rows: [admin]
      access: {read: [user, admin], create: [user], update: [user, admin], delete: [admin]}

A text without ``max_length`` may have 65,536 characters, a key or a unique text 600. A ``json`` value is as long as its
JSON. A model without a field that is a key gets the key ``id``, an integer. Without ``access`` every client may do
everything; an action that ``access`` leaves out is for no client. The role ``"*"`` stands for every client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zcli_bifrost.data.models import ACTIONS, MAX_KEY_LENGTH, MAX_LENGTH, NOW, TYPES, Field, Model, Models
from zcli_bifrost.data.patterns import Pattern, PatternError
from zcli_bifrost.data.validation import check_value
from zcli_bifrost.data.values import check_text, parse_value
from zcli_core.errors import ConfigError
from zcli_core.suggestions import suggestion

#: Largest file, in bytes.
MAX_BYTES = 1_000_000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
#: Names of tables and columns that belong to the databases or to us.
_RESERVED_MODEL = re.compile(r"(?i)(sqlite_|pg_|zcli_)")
_RESERVED_FIELDS = {"ctid", "oid", "xmin", "xmax", "cmin", "cmax", "tableoid", "rowid"}
_OPTIONS = {
    "type", "pk", "required", "unique", "default", "min", "max", "min_length", "max_length", "pattern", "enum",
    "references",
}  # fmt: skip
#: The options that only some types have.
_TYPES_OF_OPTION = {
    "min": ("int", "float", "datetime"),
    "max": ("int", "float", "datetime"),
    "min_length": ("text",),
    "max_length": ("text", "json"),
    "pattern": ("text",),
    "enum": ("int", "float", "text"),
    "unique": ("int", "text", "datetime"),
    "pk": ("int", "text"),
    "references": ("int", "text"),
}
_MODEL_KEYS = ("fields", "access", "owner", "all_rows")


def load_models(source: Path | Mapping[str, Any], origin: str) -> Models:
    """Read models.

    Args:
        source: Path of a YAML file, or a mapping.
        origin: Where the setting ``bifrost.models`` is set, for errors.

    Raises:
        ConfigError: The file cannot be read, or there are mistakes; the error names all of them.
    """
    if isinstance(source, Mapping):
        return parse_models(source, f"bifrost.models ({origin})")
    shown = f"{source} (bifrost.models, {origin})"
    try:
        with source.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the models in {shown}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{shown} is too large; a file of models may have at most {MAX_BYTES} bytes")
    return parse_models(_yaml(data, shown), str(source))


def parse_models(given: Any, where: str) -> Models:
    """Check models and return them.

    Args:
        given: What the file or the mapping holds.
        where: The file or setting, for errors.

    Raises:
        ConfigError: All mistakes.
    """
    return _Parser(where).parse(given)


def _yaml(data: bytes, shown: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """A loader that refuses a key that is given twice, because the first one would be lost."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key.value, str) and key.value in seen and key.value != "<<":
                    raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(data, Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{shown}{line}: invalid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}: invalid YAML: {error}") from None


class _Parser:
    """Parses the models of one source and collects the mistakes."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._problems: list[str] = []
        self._place = ""

    def parse(self, given: Any) -> Models:
        models: dict[str, Model] = {}
        if not isinstance(given, Mapping) or not given:
            self._wrong("it must be a mapping of model names to models, such as {tasks: {fields: {title: text}}}")
        else:
            for name, definition in given.items():
                self._place = f", model {name!r}"
                if self._is_name(name, models) and self._may_be_table(name):
                    model = self._model(name, definition)
                    if model is not None:
                        models[name] = model
            models = self._with_references(models)
        if self._problems:
            raise ConfigError(self._problems)
        return models

    def _wrong(self, what: str) -> None:
        self._problems.append(f"{self._where}{self._place}: {what}")

    # --- names ---

    def _is_name(self, name: Any, others: Mapping[str, Any]) -> bool:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._wrong("the name must begin with a letter and have at most 48 letters, digits and underscores")
            return False
        if name.casefold() in {other.casefold() for other in others}:
            self._wrong("the name is used twice; a database does not tell upper from lower case in names")
            return False
        return True

    def _may_be_table(self, name: str) -> bool:
        if _RESERVED_MODEL.match(name):
            self._wrong("the name must not begin with sqlite_, pg_ or zcli_, because those tables are not models")
            return False
        return True

    def _are_known(self, given: Mapping[Any, Any], known: Iterator[str] | Any, what: str) -> None:
        for key in given:
            if key not in known:
                self._wrong(f"unknown {what} {key!r}{suggestion(str(key), known)}")

    # --- one model ---

    def _model(self, name: str, given: Any) -> Model | None:
        if not isinstance(given, Mapping) or not isinstance(given.get("fields"), Mapping) or not given["fields"]:
            self._wrong("it must be a mapping with 'fields', a mapping of field names to types")
            return None
        self._are_known(given, _MODEL_KEYS, "key")
        model_place = self._place
        fields: dict[str, Field] = {}
        for field_name, definition in given["fields"].items():
            self._place = f"{model_place}, field {field_name!r}"
            if self._is_name(field_name, fields):
                if field_name.casefold() in _RESERVED_FIELDS:
                    self._wrong("a database uses this name for a column of its own; choose another one")
                field = self._field(field_name, definition)
                if field is not None:
                    fields[field_name] = field
        self._place = model_place
        keys = [field.name for field in fields.values() if field.pk]
        if len(keys) > 1:
            self._wrong(f"it must have one key, got pk: true for {', '.join(keys)}")
        if not keys:
            if any(each.casefold() == "id" for each in fields):
                self._wrong("no field is the key; add pk: true to one of them")
                return None
            keys = ["id"]
            fields["id"] = Field("id", "int", pk=True, required=True)
        owner = self._owner(given, fields)
        fields = {keys[0]: fields[keys[0]], **fields}
        for field in fields.values():
            if field.unique == "owner" and owner is None:
                self._wrong(f"field {field.name!r} has unique: owner, but the model has no owner; set unique: true")
        all_rows = self._roles(given["all_rows"], "all_rows") if "all_rows" in given else frozenset()
        if all_rows and given.get("owner") is None:
            self._wrong("all_rows has no effect without an owner; add owner: FIELD or leave all_rows out")
        return Model(name, fields, keys[0], self._access(given), owner, all_rows)

    def _owner(self, given: Mapping[str, Any], fields: dict[str, Field]) -> str | None:
        owner = given.get("owner")
        if owner is None:
            return None
        if not isinstance(owner, str) or owner not in given["fields"]:
            self._wrong(f"owner must be the name of one of its fields, got {owner!r}")
            return None
        field = fields.get(owner)
        if field is None:  # it has a mistake itself
            return None
        limits = (field.default, field.pattern, field.enum, field.min_length, field.references)
        if field.type != "text" or field.pk or field.unique or any(limit is not None for limit in limits):
            self._wrong(
                f"the owner field {owner!r} must be {{type: text}} without pk, unique, default, enum, pattern, "
                "min_length and references, because the server fills it with the identity of the client"
            )
        fields[owner] = field._replace(required=True, max_length=None)
        return owner

    def _access(self, given: Mapping[str, Any]) -> Mapping[str, frozenset[str]] | None:
        access = given.get("access")
        if "access" not in given:
            return None
        if not isinstance(access, Mapping):
            self._wrong(f"access must be a mapping of actions to lists of roles, got {access!r}")
            return {}
        self._are_known(access, ACTIONS, "action")
        return {action: self._roles(roles, f"access.{action}") for action, roles in access.items() if action in ACTIONS}

    def _roles(self, given: Any, what: str) -> frozenset[str]:
        roles = [given] if isinstance(given, str) else given
        if not isinstance(roles, (list, tuple)) or not all(isinstance(role, str) and role for role in roles):
            self._wrong(f"{what} must be a role or a list of roles, got {given!r}")
            return frozenset()
        return frozenset(roles)

    def _with_references(self, models: dict[str, Model]) -> dict[str, Model]:
        """Give each field that references a model the type of that model's key."""
        found = {}
        for model in models.values():
            fields = dict(model.fields)
            for field in model.fields.values():
                if field.references is None:
                    continue
                self._place = f", model {model.name!r}, field {field.name!r}"
                target = models.get(field.references)
                if target is None:
                    near = suggestion(field.references, models)
                    self._wrong(f"references must be the name of a model, got {field.references!r}{near}")
                elif field.type not in ("", target.fields[target.pk].type):
                    kind = target.fields[target.pk].type
                    self._wrong(f"the type must be {kind}, as that of the key of {target.name!r}, got {field.type}")
                else:
                    key = target.fields[target.pk]
                    fields[field.name] = field._replace(type=key.type, max_length=field.max_length or key.max_length)
            found[model.name] = model._replace(fields=fields)
        return found

    # --- one field ---

    def _field(self, name: str, given: Any) -> Field | None:
        options: Any = {"type": given} if isinstance(given, str) else given
        if not isinstance(options, Mapping):
            self._wrong(f"it must be a type ({', '.join(TYPES)}) or a mapping of options, got {given!r}")
            return None
        self._are_known(options, _OPTIONS, "option")
        kind = options.get("type", "" if "references" in options else None)
        if kind not in TYPES and kind != "":
            wrong = "the type is missing; it" if kind is None else "the type"
            got = "" if kind is None else f", got {kind!r}"
            self._wrong(f"{wrong} must be one of {', '.join(TYPES)}{got}")
            return None
        if options.get("references") is not None:
            others = sorted(map(str, options.keys() - {"references", "type", "required", "unique"}))
            if others:
                self._wrong(f"a field with references takes only type, required and unique besides, got {others[0]}")
                return None
        for option, kinds in _TYPES_OF_OPTION.items():
            if kind and options.get(option) not in (None, False) and kind not in kinds:
                self._wrong(f"{option} is not for the type {kind}, only for {', '.join(kinds)}")
                return None
        unique: Any = options.get("unique", False)
        pk, required = self._flag(options, "pk"), self._flag(options, "required")
        if unique not in (True, False, "owner"):
            self._wrong(f"unique must be true, false or owner, got {unique!r}")
        if pk and "default" in options:
            self._wrong("a key has no default: the database makes an int key, and a text key is random")
        references = options.get("references")
        if references is not None and not isinstance(references, str):
            self._wrong(f"references must be the name of a model, got {references!r}")
            references = None
        field = Field(
            name,
            kind,
            pk=pk,
            required=required or pk,
            unique="owner" if unique == "owner" else "table" if unique is True else False,
            minimum=self._bound(options, "min", kind),
            maximum=self._bound(options, "max", kind),
            min_length=self._length(options, "min_length"),
            max_length=self._length(options, "max_length"),
            pattern=self._pattern(options),
            enum=self._enum(options, kind),
            references=references,
        )
        self._check_order(field)
        if kind in ("text", "json") and field.max_length is None:
            field = field._replace(max_length=MAX_KEY_LENGTH if pk or unique else MAX_LENGTH)
        if kind == "text" and (pk or unique) and (field.max_length or 0) > MAX_KEY_LENGTH:
            self._wrong(f"max_length of a key or a unique text must be at most {MAX_KEY_LENGTH}")
        return self._with_default(field, options)

    def _flag(self, options: Mapping[str, Any], name: str) -> bool:
        value = options.get(name, False)
        if not isinstance(value, bool):
            self._wrong(f"{name} must be true or false, got {value!r}")
        return value is True

    def _bound(self, options: Mapping[str, Any], name: str, kind: str) -> Any:
        if options.get(name) is None or not kind:
            return None
        try:
            return parse_value(kind, options[name])
        except ValueError as error:
            self._wrong(f"{name} {error}, got {options[name]!r}{_quote_advice(options[name])}")
            return None

    def _length(self, options: Mapping[str, Any], name: str) -> int | None:
        value = options.get(name)
        if value is None or (type(value) is int and 0 <= value <= 10_000_000):
            return value
        self._wrong(f"{name} must be an integer between 0 and 10000000, got {value!r}")
        return None

    def _pattern(self, options: Mapping[str, Any]) -> Pattern | None:
        text = options.get("pattern")
        if text is None:
            return None
        if not isinstance(text, str):
            self._wrong(f"pattern must be a text, got {text!r}")
            return None
        try:
            return Pattern(text)
        except PatternError as error:
            self._wrong(f"the pattern {text!r} cannot be used: {error}")
            return None

    def _enum(self, options: Mapping[str, Any], kind: str) -> tuple[Any, ...] | None:
        values = options.get("enum")
        if values is None or not kind:
            return None
        if not isinstance(values, (list, tuple)) or not values:
            self._wrong(f"enum must be a list of values, got {values!r}")
            return None
        found = []
        for value in values:
            try:
                found.append(parse_value(kind, value))
            except ValueError as error:
                self._wrong(f"a value of enum {error}, got {value!r}{_quote_advice(value)}")
        return tuple(found)

    def _check_order(self, field: Field) -> None:
        if field.minimum is not None and field.maximum is not None and field.minimum > field.maximum:
            self._wrong("min is greater than max, so no value is valid")
        if (field.min_length or 0) > (field.max_length if field.max_length is not None else 10_000_000):
            self._wrong("min_length is greater than max_length, so no value is valid")

    def _with_default(self, field: Field, options: Mapping[str, Any]) -> Field:
        default = options.get("default")
        if default is None or not field.type:
            return field
        if not (field.type == "datetime" and default == NOW):
            try:
                check_value(field, default)
            except ValueError as error:
                self._wrong(f"the default {error}, got {default!r}{_quote_advice(default)}")
                return field
        return field._replace(default=default)


def _quote_advice(value: Any) -> str:
    """Return advice for a value that YAML read as something else than a text."""
    try:
        check_text(value)
    except ValueError:
        import datetime

        if isinstance(value, (bool, datetime.date)):
            return "; write it in quotes, because YAML reads it as another type"
    return ""
