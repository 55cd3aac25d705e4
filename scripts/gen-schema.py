#!/usr/bin/env python3
"""Writes src/wire/guard/schema.rs from Apache Kafka's own message definitions.

usage: scripts/gen-schema.py path/to/kafka-clients-4.3.1.jar > src/wire/guard/schema.rs

The jar carries the definitions as common/message/*.json (JSON with // comments). Only the layout
is taken: types, versions, nullability, tags. A construct that the walker does not support fails here
rather than on the wire.
"""

import json
import re
import sys
import textwrap
import zipfile

# The APIs whose bodies the proxy decodes; every other body is forwarded as opaque bytes.
DECODED = [0, 1, 2, 3, 10, 16, 17, 18, 19, 20, 21, 22, 23, 24, 27, 32, 33, 35, 36, 37, 43, 44, 60,
           61, 66, 71, 72, 75, 76, 78, 79]
EVER = 127  # "and every later version"
FIXED = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
         "float64": 8, "uuid": 16}
POINTER = 32  # an Option<StrBytes> or Option<Bytes> of the decoded message
VECTOR = 24  # a Vec, also a BTreeMap


def versions(text, default=None):
    """'3', '1-4', '2+', 'none' or absent -> (first, last) or None."""
    if text is None:
        return default
    if text == "none":
        return None
    first, _, last = text.rstrip("+").partition("-")
    return (int(first), EVER if text.endswith("+") else int(last or first))


class Structs:
    """The structs of all messages, numbered."""

    def __init__(self):
        self.rows = []

    def add(self, name, fields, common, valid, flexible):
        sizes, cells = [VECTOR], []
        for field in fields:
            cell, size = self.field(name, field, common, valid, flexible)
            cells.append(cell)
            sizes.append((size + 7) // 8 * 8)
        self.rows.append((name, sum(sizes), cells))
        return len(self.rows) - 1, sum(sizes)

    def field(self, parent, field, common, valid, flexible):
        kind = field["type"]
        array = kind.startswith("[]")
        kind = kind.removeprefix("[]")
        nullable = versions(field.get("nullableVersions"))
        if kind in FIXED:
            cell, size = f"Fixed({FIXED[kind]})", FIXED[kind]
        elif kind == "string":
            cell, size = "Text", POINTER
        elif kind in ("bytes", "records"):
            cell, size = "Blob", POINTER
        else:
            body = field.get("fields") or common[kind]
            low, high = versions(field["versions"])
            for version in range(max(low, valid[0]), min(high, valid[1], flexible - 1) + 1):
                assert not array or takes_bytes(body, common, version), f"{kind} of no bytes"
            index, size = self.add(f"{parent}.{kind}", body, common, valid, flexible)
            cell, size = f"Struct({index})", size + 8
        assert "flexibleVersions" not in field, "a field with an encoding of its own"
        first, last = versions(field["versions"])
        out = f"f({cell},{first},{last})"
        if array:
            out, size = out + ".array()", VECTOR
        if nullable:
            out += ".null({},{})".format(*nullable)
        tagged = versions(field.get("taggedVersions"))
        if tagged:
            out += ".tag({},{},{})".format(field["tag"], *tagged)
        return out, size


def takes_bytes(fields, common, version):
    """Whether a struct takes at least one byte at a version that is not flexible."""
    for field in fields:
        low, high = versions(field["versions"])
        if low <= version <= high:
            body = field.get("fields") or common.get(field["type"])
            if not body or takes_bytes(body, common, version):
                return True
    return False


def load(jar):
    for entry in sorted(jar.namelist()):
        if re.fullmatch(r"common/message/\w+\.json", entry):
            text = jar.read(entry).decode()
            message = json.loads(re.sub(r"(?m)^\s*//.*$", "", text))
            if message["type"] in ("request", "response"):
                yield message


def main():
    messages = list(load(zipfile.ZipFile(sys.argv[1])))
    structs, tables, flexible = Structs(), {"request": [], "response": []}, {}
    for message in sorted(messages, key=lambda m: (m["apiKey"], m["type"])):
        key, valid = message["apiKey"], versions(message["validVersions"])
        if valid is None:
            continue  # between brokers of the ZooKeeper days; a Kafka 4 broker refuses it
        first_flexible, _ = versions(message["flexibleVersions"]) or (EVER, EVER)
        flexible.setdefault(key, {})[message["type"]] = first_flexible
        if key not in DECODED:
            continue
        common = {s["name"]: s["fields"] for s in message.get("commonStructs", [])}
        root, _ = structs.add(message["name"], message["fields"], common, valid, first_flexible)
        tables[message["type"]].append(f"m({key},{valid[0]},{valid[1]},{first_flexible},{root})")

    print("//! Generated from Apache Kafka 4.3.1's message definitions (Apache License 2.0) by\n"
          "//! `scripts/gen-schema.py kafka-clients-4.3.1.jar > src/wire/guard/schema.rs`. Do not edit.\n"
          "//!\n"
          "//! `f(kind, first version, last)`, `127` = every later version; `s(decoded bytes, fields)`.\n"
          "\nuse super::table::FieldType::{Blob, Fixed, Struct, Text};\n"
          "use super::table::{MessageSchema, StructSchema, f, m, s};\n")
    for kind in ("request", "response"):
        rows = tables[kind]
        print(f"pub(super) static {kind.upper()}S: [Message; {len(rows)}] = [")
        for row in rows:
            print(f"    {row},")
        print("];\n")
    print("/// Every API: its key and the first flexible version of its request and of its response.")
    print(f"pub(in crate::wire) static FIRST_FLEXIBLE: [(i16, i16, i16); {len(flexible)}] = [")
    for key, pair in sorted(flexible.items()):
        print(f"    ({key}, {pair['request']}, {pair['response']}),")
    print("];\n")
    print(f"pub(super) static STRUCTS: [Row; {len(structs.rows)}] = [")
    for index, (name, size, cells) in enumerate(structs.rows):
        print(f"    // {index} {name}")
        cells = ", ".join(cells)
        print(textwrap.fill(f"s({size}, &[{cells}]),", 100, initial_indent="    ",
                            subsequent_indent="        ", break_long_words=False))
    print("];")


main()
