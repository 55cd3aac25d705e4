#!/usr/bin/env python3
"""Makes the schemas of kubernetes-validate into what kubeconform reads, below the folder it is given.

There, one file of definitions serves all kinds by `$ref`; kubeconform wants files that stand alone.
"""

import json
import pathlib
import sys

import kubernetes_validate

VERSIONS = ["1.30", "1.34", "1.37"]
PREFIX = "/api/_definitions.json#/$defs/"


def references(node, found):
    """Rewrites every reference below `node` to one into its own file, and collects the names."""
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str) and "#/$defs/" in target:
            name = target.split("#/$defs/", 1)[1]
            node["$ref"] = "#/$defs/" + name
            found.add(name)
        for value in node.values():
            references(value, found)
    elif isinstance(node, list):
        for value in node:
            references(value, found)


def stand_alone(path, definitions):
    schema = json.loads(path.read_text())
    wanted, done = set(), {}
    references(schema, wanted)
    while wanted - done.keys():
        name = sorted(wanted - done.keys())[0]
        # A copy: the next file must not see this one's rewriting.
        done[name] = json.loads(json.dumps(definitions.get(name, {})))
        references(done[name], wanted)
    return {**schema, "$defs": done}


def main():
    source = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    target = pathlib.Path(sys.argv[1])
    for version in VERSIONS:
        folder = source / f"v{version}.0-local-strict"
        definitions = json.loads((folder / "_definitions.json").read_text())
        definitions = definitions.get("$defs") or definitions.get("definitions")
        out = target / f"v{version}.0-standalone-strict"
        out.mkdir(parents=True)
        files = [f for f in folder.glob("*.json") if not f.name.startswith("_")]
        for file in files:
            (out / file.name).write_text(json.dumps(stand_alone(file, definitions)))
        if len(files) < 100:
            raise SystemExit(f"only {len(files)} schemas of Kubernetes {version} in {folder}")


main()
