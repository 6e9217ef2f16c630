"""Which names a piece of code needs from outside."""

import dis
import types


def find_global_names(code):
    """Names that a code object, or one nested in it, looks up and does not define."""
    names, defined = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(instruction.argval)
        elif instruction.opname == "STORE_NAME":
            defined.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= find_global_names(constant)
    return names - defined
