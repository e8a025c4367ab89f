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
import json
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
    """Returns the description as it stands in the file.

    Raises:
        OSError: the file cannot be read.
        Refused: it is no YAML, lacks a key, or holds a value of another kind than is wanted there.
    """
    try:
        stack = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"it is no YAML: {' '.join(str(error).split())}") from None
    if faults := list(_malformed(stack)):
        raise Refused("; ".join(faults))
    return stack


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
        if argument["type"] == "domain" and values.get(name) == "" and argument["of"] in values:
            values[name] = _domain_of(values[argument["of"]]) or argument["otherwise"]
    if not faults:
        faults = [
            *_unreached(arguments, values),
            *_without_files(arguments, values),
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
    return [p for p in stack["processes"] if _has_all(values, p.get("when", {}))]


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
    more = ", or a file" if "or_file" in argument else ""
    return argument["help"] + (f" (one of {', '.join(choices)}{more})" if choices else "")


# --- types of arguments: text in, text out, ValueError where it does not fit ----------------------------------------

YES_NO = ("true", "false")


def _text(text, argument, stack, environment):
    if not text.strip() and argument["default"]:
        raise ValueError("is empty")
    return text


def _choice(text, argument, stack, environment):
    choices = argument.get("choices", YES_NO)
    if text in choices:
        return text
    if "or_file" not in argument:
        raise ValueError(f"want one of {', '.join(choices)}")
    path = _path(text)
    if ("/" not in text and not text.endswith((".yaml", ".yml"))) or not path.is_file():
        raise ValueError(f"want one of {', '.join(choices)}, or a file's path (with a /, or ending in .yaml)")
    return str(path)


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
    "domain": _text,
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


# --- the description itself -------------------------------------------------------------------------------------------

ON_EXIT = ("stop", "respawn", "finish")
KINDS = {"node": ("package", "executable"), "command": (), "driver": ("package", "launch_file", "arguments")}


def _malformed(stack):
    """Yields what a description lacks, or holds and must not."""
    if not isinstance(stack, dict):
        yield f"it must be a table with arguments, environment and processes, is {stack!r:.60}"
        return
    for key, kind in (("arguments", dict), ("environment", dict), ("processes", list)):
        if not isinstance(stack.get(key), kind):
            yield f"{key} must be a {'table' if kind is dict else 'list'}, is {stack.get(key)!r:.60}"
            return
    for name, argument in stack["arguments"].items():
        yield from _malformed_argument(name, argument)
    for name, value in stack["environment"].items():
        if not isinstance(value, str):
            yield f"environment: {name} is {value!r:.60}, must be text; write it in quotes"
    for place, process in enumerate(stack["processes"], 1):
        yield from _malformed_process(place, process, stack["arguments"])


def _malformed_argument(name, argument):
    if not isinstance(argument, dict) or not {"default", "type", "help"} <= set(argument):
        yield f"arguments: {name} must have default, type and help, is {argument!r:.80}"
    elif not isinstance(argument["default"], str):
        yield f"arguments: {name}: default is {argument['default']!r}, must be text; write it in quotes"
    elif argument["type"] not in TYPES:
        yield f"arguments: {name}: type is {argument['type']!r}, must be one of {', '.join(TYPES)}"


def _malformed_process(place, process, arguments):
    if not isinstance(process, dict) or not isinstance(process.get("name"), str):
        yield f"process {place} must be a table with a name, is {process!r:.60}"
        return
    where, kinds = f"process {process['name']}", [kind for kind in KINDS if kind in process]
    if len(kinds) != 1:
        yield f"{where} must have one of {', '.join(KINDS)}, has {' and '.join(kinds) or 'none'}"
        return
    inside = process[kinds[0]]
    if kinds[0] == "command":
        if not isinstance(inside, list) or not inside or not all(isinstance(word, str) for word in inside):
            yield f"{where}: command must be a list of words, is {inside!r:.60}; write numbers in quotes"
    elif not isinstance(inside, dict) or not set(KINDS[kinds[0]]) <= set(inside):
        yield f"{where}: {kinds[0]} must have {', '.join(KINDS[kinds[0]])}, is {inside!r:.60}"
    if kinds[0] == "node" and not isinstance(process.get("parameters"), list):
        yield f"{where}: parameters must be a list of files and tables, is {process.get('parameters')!r:.60}"
    if process.get("on_exit") not in ON_EXIT:
        yield f"{where}: on_exit is {process.get('on_exit')!r}, must be one of {', '.join(ON_EXIT)}"
    for name, value in process.get("when", {}).items():
        if name not in arguments or not isinstance(value, str):
            yield f"{where}: when {name} is {value!r}: want an argument's name, and text in quotes"


# --- inside ---------------------------------------------------------------------------------------------------------


def _domain_of(bundle):
    """The domain of a bundle: the file that it carries, else the name in its manifest; one that ships is named for it.

    Empty: it names none, being older than domains are.
    """
    if os.sep not in bundle:
        return bundle
    carried = Path(bundle) / "domain.yaml"
    if carried.is_file():
        return str(carried)
    try:
        name = json.loads((Path(bundle) / "manifest.json").read_text(encoding="utf-8"))["domain"]["name"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def _path(text):
    return Path(os.path.abspath(os.path.expanduser(text)))


def _unknown(name, arguments):
    near = difflib.get_close_matches(name, arguments, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"unknown argument {name!r}{meant} (there are {', '.join(arguments)})"


def _holds(rule, values):
    """Whether all of `when` and none of `unless` has these values, of which a list names several."""

    def has(name, wanted):
        return values[name] in (wanted if isinstance(wanted, list) else [wanted])

    return all(has(*item) for item in rule["when"].items()) and not any(
        has(*item) for item in rule.get("unless", {}).items()
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


def _without_files(arguments, values):
    """Yields domains whose file, or the scene of whose twin where it is simulated, is not there."""
    for name, argument in arguments.items():
        given = values[name]
        if argument["type"] != "domain" or not _is_path(given):
            continue
        path = Path(os.path.expanduser(given))
        if not path.is_file():
            yield f"{name}:={given}: there is no such file; give the path where the domain's file lies now"
        elif _has_all(values, argument.get("simulated", {})) and (scene := _scene_beside(path)) is not None:
            if (path.parent / "manifest.json").is_file():
                bundle = f"{argument['of']}:={values[argument['of']]}"
                yield (
                    f"{bundle} carries its domain, but not the scene of its twin ({scene.name}), which stays beside "
                    f"the domain's own file: give {name}:=PATH of that (from another machine, copy its folder here "
                    "first)"
                )
            else:
                yield f"{name}:={given}: the scene of its twin, {scene}, is not there; put it there, or mend its twin"


def _is_path(name):
    """Whether a name is meant as a file's path, as skimo_core.domain.library has it."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def _scene_beside(domain):
    """Path of the scene that a domain's file names for its twin, if it isn't there."""
    try:
        twin = yaml.safe_load(domain.read_text(encoding="utf-8")).get("twin")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return None
    if not isinstance(twin, str) or not _is_path(twin) or (domain.parent / twin).is_file():
        return None
    return domain.parent / twin


def _has_all(values, wanted):
    return all(values[name] == value for name, value in wanted.items())


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
