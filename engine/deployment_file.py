"""Reading a deployment file: YAML without duplicate keys, with `${VAR}` replaced, validated."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from saguaro.engine.deployment import Deployment
from saguaro.engine.environment import substitute
from saguaro.errors import ConfigError

_MOST_BYTES = 1 << 20  # a deployment file is a page; anything larger is some other file


def load_deployment(path: str | Path) -> Deployment:
    """Read and check the deployment file. Raises ConfigError with one sentence that says what is wrong."""
    path = Path(path)
    return Deployment.from_mapping(_parse(_read(path), str(path)), source=str(path), base=path.parent)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "a directory" if isinstance(error, IsADirectoryError) else "no such file"
        raise ConfigError(f"{path}: {what}; name a deployment file, such as configs/demo.yaml") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); check the path and its permissions") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path}: larger than 1 MiB; expected a deployment file; check the path")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; expected a deployment file; check the path") from error


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: it makes no objects
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}, " if mark else ""
        problem = error.problem or error.context
        advice = getattr(error, "advice", "correct the YAML syntax")
        raise ConfigError(f"{source}: {line}{problem}; {advice}") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{source}: {problem}; correct the YAML syntax") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply; expected a deployment file") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        # what SafeLoader lets through for a value that does not fit its type, such as the date 2024-99-99
        raise ConfigError(f"{source}: a value cannot be read ({error}); put it in quotes") from None


class _Problem(yaml.MarkedYAMLError):
    def __init__(self, problem: str, advice: str, mark: yaml.Mark):
        super().__init__(problem=problem, problem_mark=mark)
        self.advice = advice


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses duplicate keys (YAML keeps the last one) and reads `${VAR}`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _Problem(f"the key {key.value!r} stands there twice", "remove one", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        try:
            return substitute(self.construct_yaml_str(node))
        except ValueError as error:
            problem, _, advice = str(error).partition("; ")
            raise _Problem(problem, advice, node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_text)
