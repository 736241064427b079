"""A pickle machine that calls nothing.

Reads the opcodes one by one and builds dictionaries, lists, numbers and passive stand-ins
(:mod:`tempcons.weights.inert`). A name that is not on the list is refused as soon as it is
mentioned, whether or not the pickle goes on to call it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from tempcons.check import WeightsError
from tempcons.weights import inert
from tempcons.weights.inert import Name, refuse

MARK = object()
IGNORED = {"PROTO", "FRAME"}
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
MAX_OPERATIONS = 20_000_000

Persistent = Callable[[Any], Any]
Loader = Callable[[Any], Any]


class PickleMachine:
    """Runs one pickle.

    Args:
        persistent: what a persistent id (a storage of a ``torch.save`` file) stands for.
        loads_storage: reads storages nested as bytes (``torch.storage._load_from_bytes``).
    """

    def __init__(self, persistent: Persistent | None = None, loads_storage: Loader | None = None) -> None:
        self.persistent = persistent
        self.loads_storage = loads_storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names: set[str] = set()

    def run(self, stream: BinaryIO) -> Any:
        """The value pickled next in ``stream``.

        Raises:
            WeightsError: a truncated pickle, an unknown opcode, or a name that is not allowed.
        """
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
                if count > MAX_OPERATIONS:
                    raise refuse(f"a pickle of more than {MAX_OPERATIONS} operations")
                self._step(opcode.name, argument)
            (value,) = self.stack
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            raise refuse(f"not a whole pickle ({error})") from error
        return value

    def _step(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name == "STOP" or name in IGNORED:
            return
        elif method := getattr(self, f"_op_{name.lower()}", None):
            method(argument)
        else:
            raise refuse(f"pickle operation {name}")

    def _since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise refuse("a pickle whose marks don't match")

    # Stack and memo

    def _op_mark(self, _: Any) -> None:
        self.stack.append(MARK)

    def _op_pop(self, _: Any) -> None:
        self.stack.pop()

    def _op_pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _op_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _op_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    _op_binget = _op_long_binget = _op_get

    # Containers

    def _op_empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _pack(self, count: int) -> None:
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _op_tuple1(self, _: Any) -> None:
        self._pack(1)

    def _op_tuple2(self, _: Any) -> None:
        self._pack(2)

    def _op_tuple3(self, _: Any) -> None:
        self._pack(3)

    def _op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _op_list(self, _: Any) -> None:
        self.stack.append(self._since_mark())

    def _op_append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _op_appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise refuse("a pickle that appends to something else than a list")
        self.stack[-1].extend(items)

    def _op_empty_set(self, _: Any) -> None:
        self.stack.append(set())

    def _op_additems(self, _: Any) -> None:
        items = inert.plain_set(self._since_mark())
        if not isinstance(self.stack[-1], set):
            raise refuse("a pickle that adds to something else than a set")
        self.stack[-1].update(items)

    def _op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _op_dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def _op_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _op_setitems(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise refuse("a pickle that sets items of something else than a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[inert.plain_key(key)] = value

    # Names and what is made from them

    def _op_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def _op_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise refuse("a pickle that names something without words")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        found = Name(module, name)
        text = str(found)
        storage = module in ("torch", "torch.storage") and name in inert.STORAGES
        nested = text == "torch.storage._load_from_bytes" and self.loads_storage is not None
        if not (storage or nested or text in inert.CALLS or text in inert.OBJECTS or text in inert.PASSIVE):
            raise WeightsError(
                "weights",
                f"the file names {module}.{name}, which is not allowed in weights",
                "nothing was run; get the official file, or save the tensors alone on a machine you trust",
            )
        self.names.add(text)
        self.stack.append(found)

    def _op_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._call(function, arguments))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise refuse("a pickle that calls something without a name")
        text = str(function)
        if text == "torch.storage._load_from_bytes" and self.loads_storage is not None:
            return self.loads_storage(*arguments)
        if text in inert.CALLS:
            return inert.CALLS[text](*arguments)
        if text in inert.PASSIVE:
            return inert.Passive(function)
        raise refuse(f"a pickle that calls {text}")

    def _op_newobj(self, _: Any) -> None:
        self.stack.pop()
        self._push_object(self.stack.pop())

    def _op_newobj_ex(self, _: Any) -> None:
        self.stack.pop()
        self._op_newobj(None)

    def _push_object(self, kind: Any) -> None:
        if isinstance(kind, Name) and str(kind) in inert.OBJECTS:
            self.stack.append(inert.OBJECTS[str(kind)]())
        elif isinstance(kind, Name) and str(kind) in inert.PASSIVE:
            self.stack.append(inert.Passive(kind))
        else:
            raise refuse(f"a pickle that makes an object of {inert.short(kind)}")

    def _op_build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, inert.ArrayRef):
            inert.fill_array(target, state)
        elif isinstance(target, inert.DTypeRef):
            inert.fill_dtype(target, state)
        elif isinstance(target, inert.Passive) and isinstance(state, dict):
            target.attributes.update(state)
        elif not isinstance(target, (dict, inert.TensorRef)):
            raise refuse(f"a pickle that changes a {type(target).__name__}")

    def _op_binpersid(self, _: Any) -> None:
        if self.persistent is None:
            raise refuse("a pickle that refers to data outside of it")
        self.stack.append(self.persistent(self.stack.pop()))
