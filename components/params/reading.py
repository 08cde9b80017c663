"""params.yaml from disk; every mistake becomes one line that names the key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from components.errors import UserError
from components.params.root import Params

PARAMS_FILE = Path("params.yaml")


class _OneOfEach(yaml.SafeLoader):
    """Refuses a key that stands twice in a section; PyYAML would take the last one, and say nothing."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
        return super().construct_mapping(node, deep)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate params.yaml; every mistake becomes one line that names the key."""
    return validate_params(read_tree(path), str(path))


def read_tree(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The sections of a YAML file, not validated yet."""
    return parse(read_text(path), str(path))


def parse(text: str, path: str = str(PARAMS_FILE)) -> dict[str, Any]:
    """Sections of settings from YAML; `path` is the file that an error line names."""
    try:
        tree = yaml.load(text, _OneOfEach)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise UserError(f"{path}:{where} is not valid YAML: {what}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply to be settings") from None
    except ValueError as error:  # a date that is none, a number that is too long
        raise UserError(f"{path}: holds a value that cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: must hold sections of settings, found {_kind(tree)}")
    return tree


def read_text(path: Path) -> str:
    """A settings file as text. UserError where there is none or it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the command in the root of the repository") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; it must be a YAML file of settings") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at position {error.start}"
        raise UserError(f"{path}: is not UTF-8 ({found}); save it as UTF-8") from None


def _kind(tree: Any) -> str:
    names = {type(None): "nothing: it is empty", list: "a list", str: "a text"}
    return names.get(type(tree), type(tree).__name__)


def validate_params(tree: Any, name: str = str(PARAMS_FILE)) -> Params:
    """Turn a plain tree into Params. `name` is the file that the error line blames."""
    if not isinstance(tree, dict):
        raise UserError(f"{name}: must hold sections of settings, found {_kind(tree)}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        # A misspelt key first: it is also why another is missing.
        mistakes = sorted(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        raise UserError(f"{name}: {_in_words(mistakes[0])}{more}") from None


_PHRASES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "literal_error": "must be {expected}",
    "too_short": "must not be empty",
    "missing": "is missing",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}


def _in_words(mistake: Any) -> str:
    kind, where, found = mistake["type"], mistake["loc"], mistake["input"]
    key = ".".join(_on_one_line(part) for part in where if part != "[key]")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), _known_keys(where[:-1]), n=1)
        hint = f"; did you mean {'.'.join([*map(str, where[:-1]), near[0]])}?" if near else ""
        return f"{key} is not a setting{hint}"
    if kind == "value_error":
        return f"{key + ': ' if key else ''}{mistake['ctx']['error']}"
    phrase = _PHRASES.get(kind, str(mistake["msg"])).format(**mistake.get("ctx", {}))
    return f"{key} {phrase}" if kind == "missing" else f"{key} {phrase}, got {found!r}"


def _on_one_line(part: Any) -> str:
    return str(part) if str(part).isprintable() else ascii(part)


def _known_keys(where: tuple[Any, ...]) -> list[str]:
    section: Any = Params
    for part in where:
        fields = getattr(section, "model_fields", {})
        section = fields[part].annotation if part in fields else None
    return list(getattr(section, "model_fields", {}))
