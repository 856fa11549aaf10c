"""Restores what `depickle convert --metadata` wrote: the values of a checkpoint, with its tensors in their places.

    values = restore("model.metadata.json", load_file("model.safetensors"))[0]

Builtin types and tensors come back as they were. Everything else was made by a call in the checkpoint; to make it again
is to run code, so `resolve` decides: it takes a name as `module:name` and returns what to call. Without it, such objects
come back as `Inert` records, and nothing is imported. Give it names that you know, never `pkgutil.resolve_name` for a
file that you do not trust.

The form of the document is in docs/metadata.md. Standard library only.
"""

import base64
import json
import math
import struct
import sys


class Inert:
    """An object that was not made: its class or function by name, and what it was given."""

    def __init__(self, name, args=(), kwargs=None):
        self.name, self.args, self.kwargs = name, args, kwargs or {}
        self.items, self.entries, self.states = [], [], []

    def __repr__(self):
        return f"<{self.name} {self.args!r}>"

    def __hash__(self):
        return id(self)


class Named:
    """A class or function that was not resolved."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<{self.name}>"


class LeftOut:
    """A tensor that is not in the output, or that was written in parts."""

    def __init__(self, node, parts):
        self.path, self.parts = node.get("path"), parts


class NotYet(Exception):
    """A tuple, or an object, that something inside of it refers to before it is made."""


def restore(path, tensors, resolve=None):
    """The root of each pickle. `tensors` maps names of the output to whatever shall stand in their places."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 100_000))
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    if document["schema"] != "depickle-metadata/1":
        raise ValueError(f"schema {document['schema']!r}")
    return [Restorer(pickle, tensors, resolve).root() for pickle in document["pickles"]]


class Restorer:
    def __init__(self, pickle, tensors, resolve):
        self.pickle, self.tensors, self.resolve = pickle, tensors, resolve
        self.nodes = {node["id"]: node for node in pickle["objects"]}
        self.made, self.open, self.later = {}, set(), []

    def root(self):
        root = self.value(self.pickle["value"])
        while self.later:
            fill, items = self.later.pop(0)
            fill(items)
        return root

    def value(self, node):
        if isinstance(node, list):
            return self.filled([], list.append, node)
        if not isinstance(node, dict):
            return node
        number = node.get("id")
        if node["type"] == "ref":
            return self.refer(number)
        if number is None:
            return getattr(self, "_" + node["type"])(node)
        if number in self.made:
            return self.made[number]
        self.open.add(number)
        self.nodes[number] = node
        value = getattr(self, "_" + node["type"])(node)
        self.open.discard(number)
        return self.made.setdefault(number, value)

    def refer(self, number):
        if number in self.made:
            return self.made[number]
        if number in self.open or number not in self.nodes:
            raise NotYet(number)
        return self.value(self.nodes[number])

    def shell(self, node, value):
        """What can be referred to before it is filled."""
        if "id" in node:
            self.made[node["id"]] = value
        return value

    def filled(self, target, put, items):
        """Fills a list, set or dictionary. What refers to a tuple that is still being made is put there afterwards."""

        def fill(items):
            for at, item in enumerate(items):
                try:
                    put(target, self.value(item))
                except NotYet:
                    self.later.append((fill, items[at:]))
                    return

        fill(items)
        return target

    def pairs(self, node):
        fields = [[{"type": "str", "value": key}, value] for key, value in node.get("entries", {}).items()]
        return fields + node.get("pairs", [])

    def set_pairs(self, target, node):
        def put(target, pair):
            target[pair[0]] = pair[1]

        return self.filled(target, put, self.pairs(node))

    # One method for each type of the document.

    def _int(self, node):
        return int(node["value"], 0)

    def _float(self, node):
        if "bits" in node:
            return struct.unpack(">d", bytes.fromhex(node["bits"]))[0]
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[node["value"]]

    def _str(self, node):
        if "base64" in node:
            return base64.b64decode(node["base64"]).decode("utf-8", "surrogatepass")
        return node["value"]

    def _str2(self, node):
        text = base64.b64decode(node["base64"])
        try:
            return text.decode("utf-8")  # as torch.load does
        except UnicodeDecodeError:
            return text

    def _bytes(self, node):
        return base64.b64decode(node["base64"])

    def _bytearray(self, node):
        return self.shell(node, bytearray(base64.b64decode(node["base64"])))

    def _list(self, node):
        return self.filled(self.shell(node, []), list.append, node["items"])

    def _tuple(self, node):
        return tuple([self.value(item) for item in node["items"]])

    def _set(self, node):
        return self.filled(self.shell(node, set()), set.add, node["items"])

    def _frozenset(self, node):
        return frozenset([self.value(item) for item in node["items"]])

    def _dict(self, node):
        return self.set_pairs(self.shell(node, {}), node)

    def _global(self, node):
        return self.resolve(node["name"]) if self.resolve else Named(node["name"])

    def _persistent(self, node):
        return Inert("persistent", (self.value(node["pid"]),))

    def _tensor(self, node):
        if "parts" in node or "name" not in node:
            parts = {part["part"]: self.tensors.get(part.get("name")) for part in node.get("parts", [])}
            value = LeftOut(node, parts)
        else:
            value = self.tensors[node["name"]]
        self.shell(node, value)
        for state in states(node):
            self.value(state)
        return value

    def _object(self, node):
        new, name = "new" in node, node.get("new", node.get("call"))
        args = node["args"]
        args = tuple([self.value(arg) for arg in args]) if isinstance(args, list) else self.value(args)
        kwargs = self.value(node["kwargs"]) if "kwargs" in node else {}
        if not self.resolve:
            value = self.shell(node, Inert(name, args, kwargs))
            self.filled(value.items, list.append, node.get("items", []))
            self.filled(value.entries, list.append, self.pairs(node))
            self.filled(value.states, list.append, states(node))
            return value
        callable = self.resolve(name) if isinstance(name, str) else self.value(name)
        value = callable.__new__(callable, *args, **kwargs) if new else callable(*args, **kwargs)
        self.shell(node, value)
        put = type(value).append if hasattr(value, "append") else getattr(type(value), "add", None)
        self.filled(value, put, node.get("items", []))
        self.set_pairs(value, node)
        for state in states(node):
            set_state(value, self.value(state))
        return value


def states(node):
    return [node["state"]] if "state" in node else node.get("states", [])


def set_state(value, state):
    """As Python's BUILD does."""
    if hasattr(value, "__setstate__"):
        value.__setstate__(state)
        return
    slots = {}
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        value.__dict__.update(state)
    for name, slot in (slots or {}).items():
        setattr(value, name, slot)
