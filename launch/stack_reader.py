"""Reads stack.yaml for both starters: what was given is checked here, and refused here, before anything starts.

Promises
  - panda.launch.py and `skimo up` load this very file, so they refuse the same, in the same words.
  - Whatever cannot be honoured is refused: unknown names, values that fit no type, files and programs that are not
    there, arguments that contradict each other. All faults are told at once. Nothing is made or written.
  - A parameter that is text stays text, however much it looks like a number.
  - With a namespace every node stands below it, and so does whatever else two stacks in one ROS domain must not share.
Standard library and PyYAML only, Python 3.10 or later.
"""

import difflib
import ipaddress
import os
import re
import shutil
from pathlib import Path

import yaml

NODE_KEYS = re.compile(r"/?(?:[^/]+/)*([^/]+)")
NAMESPACE = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*/?")
LOCAL = "local"
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class Refused(ValueError):
    """What was given cannot be honoured; the message names each fault, what is allowed, and the remedy."""


def read_stack(path):
    """Returns the description as it stands in the file."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def values_of(stack, given, *, here, python, environment):
    """Returns the value of every argument, paths expanded, and of {here}, {python} and {distro}.

    Args:
        stack: of `read_stack`.
        given: argument name -> text, as the human gave it.
        here: folder of stack.yaml.
        python: interpreter that has skimo_core and skimo_ros.
        environment: of the processes that will be started (PATH, ROS_DISTRO, AMENT_PREFIX_PATH).

    Raises:
        Refused: something cannot be honoured.
    """
    arguments = stack["arguments"]
    faults = [_unknown(name, arguments) for name in given if name not in arguments]
    values = {}
    for name, argument in arguments.items():
        text = given.get(name, argument["default"])
        try:
            values[name] = TYPES[argument["type"]](text, argument, stack, environment)
        except ValueError as fault:
            faults.append(f"{name}:={text}: {fault}")
    for name, argument in arguments.items():
        if argument["type"] == "endpoint" and values.get(name) == LOCAL:
            values[name] += namespace_of(values)
    if not faults:
        faults = [
            *_unreached(arguments, values),
            *(rule["words"].format(**values) for rule in stack.get("refused", ()) if _holds(rule, values)),
        ]
    values |= {"here": str(here), "python": python, "distro": environment.get("ROS_DISTRO", "")}
    if not faults:
        faults = [fault for process in wanted(stack, values) for fault in _missing(process, values, environment)]
    if faults:
        raise Refused("; ".join(faults))
    return values


def wanted(stack, values):
    """Returns the processes that these values want, in the order of their start."""
    return [p for p in stack["processes"] if all(values[name] == v for name, v in p.get("when", {}).items())]


def namespace_of(values):
    """Returns the namespace of every node: "/left", or "" for none."""
    return values.get("namespace", "")


def command_of(process, values, environment):
    """Returns the command line of a process that is no node; a robot's driver runs below skimo_bringup.driver."""
    if "driver" not in process:
        return [part.format(**values) for part in process["command"]]
    driver = process["driver"]
    given = {name: text.format(**values) for name, text in driver["arguments"].items()}
    command = ["ros2", "launch", str(_share_file(driver, environment))]
    command += [f"{name}:={value}" for name, value in given.items() if value]  # ros2 launch takes no empty one
    below = [namespace_of(values)] if namespace_of(values) else []
    return [values["python"], "-m", "skimo_bringup.driver", *below, "--", *command]


def parameters_of(process, values, arguments):
    """Returns a node's parameters, in order: paths of files, and mappings of typed values; none that is empty."""
    translated = []
    for item in process["parameters"]:
        if isinstance(item, dict):
            typed = {name: _typed(text, values, arguments) for name, text in item.items()}
            translated.append({name: value for name, value in typed.items() if value != ""})
        elif item.format(**values):
            translated.append(item.format(**values))
    return translated


def described(argument):
    """Returns an argument's help, with what is allowed."""
    choices = argument.get("choices", YES_NO if argument["type"] == "yes_no" else ())
    return argument["help"] + (f" (one of {', '.join(choices)})" if choices else "")


# --- types of arguments: text in, text out, ValueError where it does not fit ----------------------------------------

YES_NO = ("true", "false")


def _text(text, argument, stack, environment):
    if not text.strip() and argument["default"]:
        raise ValueError("is empty")
    return text


def _choice(text, argument, stack, environment):
    choices = argument.get("choices", YES_NO)
    if text not in choices:
        raise ValueError(f"want one of {', '.join(choices)}")
    return text


def _whole_number(text, argument, stack, environment):
    low, high = argument["low"], argument["high"]
    if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
        raise ValueError(f"want a whole number, {low} to {high}")
    return text


def _number(text, argument, stack, environment):
    low, high = argument["low"], argument["high"]
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) or not low <= float(text) <= high:
        raise ValueError(f"want a number, {low:g} to {high:g}")
    return text


def _host(text, argument, stack, environment):
    if not text:
        return text
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not HOST.fullmatch(text) or re.fullmatch(r"[\d.]+", text):
            raise ValueError("want an address such as 172.16.0.2, or a host's name") from None
    return text


def _namespace(text, argument, stack, environment):
    if text not in ("", "/") and not NAMESPACE.fullmatch(text):
        raise ValueError("want words of letters, digits and _ joined by /, such as left or /lab/left")
    return f"/{text.strip('/')}" if text.strip("/") else ""


def _parameter_file(text, argument, stack, environment):
    """A ROS parameter file, each section of which reaches a node of this stack."""
    if not text:
        return text
    path = _path(text)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no parameters; want node names with ros__parameters below them")
    nodes = [process["name"] for process in stack["processes"] if "node" in process]
    for key, section in content.items():
        _check_section(path, str(key), section, nodes)
    return str(path)


def _check_section(path, key, section, nodes):
    if isinstance(section, dict) and "ros__parameters" not in section and section:
        for below, deeper in section.items():  # a namespace
            _check_section(path, f"{key}/{below}", deeper, nodes)
        return
    if not isinstance(section, dict) or not isinstance(section["ros__parameters"] if section else None, dict):
        raise ValueError(f"{path}: {key!r} holds no ros__parameters with names and values below")
    node = NODE_KEYS.fullmatch(key)
    if node is None or node[1] not in (*nodes, "*", "**"):
        raise ValueError(f"{path}: {key!r} is no node of this stack, so its values would reach nobody; want /** or one "
                         f"of {', '.join(nodes)}")  # fmt: skip


def _folder(text, argument, stack, environment):
    """A folder that can be written, or can be made."""
    if not text.strip():
        raise ValueError("is empty; give a folder")
    path = _path(text)
    place = path
    while not place.exists() and not place.is_symlink() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"{place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"{place} cannot be written")
    return str(path)


def _bundle(text, argument, stack, environment):
    """A bundle's folder; a plain name is one that ships, which only the policy server knows."""
    if not text.strip():
        raise ValueError("is empty; give a bundle's folder, or the name of one that ships")
    path = _path(text)
    if os.sep not in text and not text.startswith((".", "~")) and not path.exists():
        return text
    if not (path / "manifest.json").is_file():
        raise ValueError(f"{path} is no bundle: it has no manifest.json")
    return str(path)


def _program(text, argument, stack, environment):
    found = shutil.which(os.path.expanduser(text), path=environment.get("PATH", os.defpath))
    if found is None:
        where = "no program there" if os.sep in text else "no such program on the PATH"
        raise ValueError(f"{where}; give the path of one, such as ~/skimo_server/bin/skimo")
    return os.path.expanduser(text)


TYPES = {
    "text": _text,
    "endpoint": _text,
    "namespace": _namespace,
    "yes_no": _choice,
    "choice": _choice,
    "whole_number": _whole_number,
    "number": _number,
    "host": _host,
    "parameter_file": _parameter_file,
    "folder": _folder,
    "bundle": _bundle,
    "program": _program,
}


# --- inside ---------------------------------------------------------------------------------------------------------


def _path(text):
    return Path(os.path.abspath(os.path.expanduser(text)))


def _unknown(name, arguments):
    near = difflib.get_close_matches(name, arguments, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"unknown argument {name!r}{meant} (there are {', '.join(arguments)})"


def _holds(rule, values):
    """Whether all of `when` and none of `unless` has these values."""
    return all(values[name] == value for name, value in rule["when"].items()) and not any(
        values[name] == value for name, value in rule.get("unless", {}).items()
    )


def _unreached(arguments, values):
    """Yields sections of parameter files that name a node without the namespace that it has."""
    namespace = namespace_of(values)
    for name, argument in arguments.items():
        if argument["type"] != "parameter_file" or not values[name] or not namespace:
            continue
        for key, section in yaml.safe_load(Path(values[name]).read_text(encoding="utf-8")).items():
            node = str(key).strip("/")
            if "ros__parameters" in section and "/" not in node and "*" not in node:
                yield f"{values[name]}: {key!r} would reach nobody, for the nodes are below {namespace}; write " + (
                    f"{namespace}/{node}, or /**/{node} for every namespace"
                )


def _missing(process, values, environment):
    """Yields what a process needs and this machine does not have."""
    for template in process.get("needs", ()):
        path = Path(template.format(**values))
        if not path.is_file():
            yield f"{process['name']} needs {path.name}, which {path.parent} does not have: driver " + (
                f"{values['driver']} is not known on ROS {values['distro'] or '(ROS_DISTRO is not set)'}"
            )
    if "driver" in process and _share_file(process["driver"], environment) is None:
        driver = process["driver"]
        yield f"{process['name']} needs {driver['launch_file']} of the package {driver['package']}, which no prefix of "
        "AMENT_PREFIX_PATH has; source the driver's workspace"
    program = "ros2" if "driver" in process else process.get("command", [""])[0]
    if program == "ros2" and shutil.which(program, path=environment.get("PATH", os.defpath)) is None:
        yield f"{process['name']} needs the program ros2 (ROS's own launch); source ROS 2, or use the twin"


def _share_file(driver, environment):
    for prefix in filter(None, environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        path = Path(prefix) / "share" / driver["package"] / driver["launch_file"]
        if path.is_file():
            return path
    return None


def _typed(text, values, arguments):
    """A parameter's value: of its argument's type where it is one argument and nothing else, otherwise text."""
    name = text[1:-1] if re.fullmatch(r"\{\w+\}", text) else ""
    kind = arguments.get(name, {}).get("type")
    if kind == "yes_no":
        return values[name] == "true"
    numbers = {"whole_number": int, "number": float}
    return numbers[kind](values[name]) if kind in numbers else text.format(**values)
