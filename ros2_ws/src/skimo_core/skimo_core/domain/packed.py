"""A lab's own domain as files that a bundle carries: domain.yaml, and robot.yaml and cell.yaml where it has its own.

Promises
  - Read back, they give the same domain, robot and cell: the same digests. Comments are left out, and so are paths: the
    domain's file names its own robot and cell as ./robot.yaml and ./cell.yaml. Its twin's scene stays at home.
  - What ships needs no file: it is found by its name.
  - Files that come from elsewhere are checked before they are used: their size, no YAML aliases (which can stand for
    any amount), no other file named in them, the digest that was promised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..contract.errors import SpecError
from ..contract.specs import Named
from . import library
from .cell import parse_cell
from .domain import Domain, parse_domain
from .robot import parse_limits
from .tables import Table, read_yaml

DOMAIN_FILE = "domain.yaml"
BESIDE = {"robot": "robots", "cell": "cells"}
"""What else a domain's file may name, and the kind of file that is."""
FILES = (DOMAIN_FILE, *(f"{key}.yaml" for key in BESIDE))
MAX_FILE_BYTES = 256 * 1024


def pack(domain: Domain) -> dict[str, bytes]:
    """The files of a domain by name; none for one that ships.

    Raises:
        SpecError: a file of it can't be read any more.
    """
    if domain.source in library.shipped("domains"):
        return {}
    source = library.find("domains", domain.source)
    data = dict(read_yaml(source.text, source.where))
    made = {}
    for key, kind in BESIDE.items():
        name = data.get(key, "")
        if name and name not in library.shipped(kind):
            found = library.find(kind, library.beside(source, name))
            made[f"{key}.yaml"] = _dumped(read_yaml(found.text, found.where))
            data[key] = f"./{key}.yaml"
    twin = str(data.get("twin", ""))
    if library.is_path(twin):
        data["twin"] = f"./{Path(twin).name}"
    return {DOMAIN_FILE: _dumped(data), **made}


def check_packed(files: Mapping[str, bytes], named: Named) -> None:
    """Refuse files that are not what a bundle says of its domain.

    Raises:
        SpecError: too large; no UTF-8 or YAML, or with aliases; a domain, robot or cell that can't be; another domain
            than `named`; a robot or cell that is neither beside it nor known by a plain name.
    """
    if not files:
        return
    texts = {name: _text(name, data) for name, data in files.items()}
    if DOMAIN_FILE not in texts:
        raise SpecError(f"{DOMAIN_FILE} is missing beside {', '.join(texts)}")
    table = Table(read_yaml(texts[DOMAIN_FILE], DOMAIN_FILE), DOMAIN_FILE)
    for key in BESIDE:
        name, file = table.value(key) if key in table else "", f"{key}.yaml"
        if (file in texts) != (name == f"./{file}"):
            raise SpecError(
                f"{DOMAIN_FILE}: {key} is {str(name)[:60]!r}, and {file} is {'' if file in texts else 'not '}there"
            )
        if file not in texts and isinstance(name, str) and library.is_path(name):
            raise SpecError(f"{DOMAIN_FILE}: {key} is {name[:60]!r}, a file that a bundle doesn't carry")
    found = parse_domain(library.Source(text=texts[DOMAIN_FILE], where=DOMAIN_FILE, folder=Path()), DOMAIN_FILE)
    if found.named != named:
        raise SpecError(f"{DOMAIN_FILE} is {found.named}, the manifest says {named}")
    if "robot.yaml" in texts:
        parse_limits(texts["robot.yaml"], "robot.yaml")
    if "cell.yaml" in texts:
        parse_cell(texts["cell.yaml"], "cell.yaml")


def _text(name: str, data: bytes) -> str:
    if name not in FILES:
        raise SpecError(f"{name} is no file of a domain; there are {', '.join(FILES)}")
    if len(data) > MAX_FILE_BYTES:
        raise SpecError(f"{name} holds {len(data)} bytes, at most {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8")
        if any(isinstance(token, (yaml.AliasToken, yaml.AnchorToken, yaml.TagToken)) for token in yaml.scan(text)):
            raise SpecError(f"{name} has YAML anchors, aliases or tags; export the bundle again")
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{name} is not YAML: {' '.join(str(error).split())[:200]}") from None
    return text


class _Plain(yaml.SafeDumper):
    """Writes a value that stands in two places twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _dumped(data: Any) -> bytes:
    text = yaml.dump(data, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return text.encode("utf-8")
