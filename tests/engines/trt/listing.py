"""Names and signatures of an extension module's classes, as JSON: ``python listing.py MODULE``.  Imports nothing of ours."""

import importlib
import json
import re
import sys

HIDDEN = re.compile(r"__(?!init__)|_pybind11")


def listing(module):
    """Class name -> enumerators, or methods (with each overload), properties (with whether they can be set) and other values."""
    classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    return {name: enumerators(kind) or members(kind) for name, kind in sorted(classes.items())}


def enumerators(kind):
    names = getattr(kind, "__members__", None)
    return {"enum": list(names)} if names else None


def members(kind):
    found = {"methods": {}, "properties": {}, "values": []}
    for name in sorted(dir(kind)):
        value = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        if HIDDEN.match(name):
            continue
        if isinstance(value, property):
            found["properties"][name] = "get" if value.fset is None else "get, set"
        elif callable(value) and not isinstance(value, type):
            found["methods"][name] = signatures(name, value.__doc__ or "")
        else:
            found["values"].append(name)
    return found


def signatures(name, text):
    """``(flags=) -> INetworkDefinition`` for each overload that a docstring of pybind11 begins with."""
    heads = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> (.*)$", text, flags=re.MULTILINE)
    return sorted({f"({', '.join(parameters(inside))}) -> {short(answer)}" for inside, answer in heads})


def parameters(inside):
    """Names without ``self``; those that may be left out end in ``=``."""
    kept = [part for part in split(inside) if part and not re.match(r"self\b|\*", part)]
    return [re.match(r"\w+", part).group() + "=" * (" = " in part) for part in kept]


def split(inside):
    """At commas outside of brackets."""
    parts, depth = [""], 0
    for letter in inside.replace("->", "to"):
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def short(answer):
    return re.sub(r"[\w.]+\.", "", answer.replace("::", ".")).strip()


if __name__ == "__main__":
    loaded = importlib.import_module(sys.argv[1])
    print(json.dumps({"module": sys.argv[1], "version": loaded.__version__, "classes": listing(loaded)}))
