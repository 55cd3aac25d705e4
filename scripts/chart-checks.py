#!/usr/bin/env python3
"""What chart.sh asks of YAML files.

  same A B           both hold the same objects, in whatever order and layout
  readme             the values that README.md shows are those that are tested, and under 25 lines
  compose DIR        deploy/compose.yaml mounts what exists, pins images, and keeps one port to one
                     service; writes each Odradek's environment into DIR/<service>.env
"""

import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent


def fail(text):
    sys.exit(f"chart-checks: {text}")


def objects(path):
    documents = [d for d in yaml.safe_load_all(pathlib.Path(path).read_text()) if d]
    return sorted(((d["kind"], d["metadata"]["name"], d) for d in documents), key=lambda row: row[:2])


def same(left, right):
    for a, b in zip(objects(left), objects(right), strict=True):
        if a != b:
            fail(f"{a[0]} {a[1]} is not the same in {left} and {right}")


def readme():
    shown = re.search(r"\n```yaml\n(zones:.*?)```\n", (ROOT / "README.md").read_text(), re.S)
    tested = (ROOT / "helm/odradek/ci/zones-values.yaml").read_text()
    if not shown or shown.group(1) != tested:
        fail("README.md shows other values than helm/odradek/ci/zones-values.yaml")
    if len(tested.splitlines()) >= 25:
        fail("the values for a newcomer have 25 lines or more")


def compose(folder):
    here = ROOT / "deploy"
    services = yaml.safe_load((here / "compose.yaml").read_text())["services"]
    taken = {}
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        if tag in ("", "latest") or ":" not in service["image"]:
            fail(f"{name}: the image {service['image']} is not pinned")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and not (here / source).exists():
                fail(f"{name} mounts {source}, which does not exist")
        for port in service.get("ports", []):
            first, _, last = port.split(":")[0].partition("-")
            for number in range(int(first), int(last or first) + 1):
                if number in taken:
                    fail(f"port {number} is {taken[number]}'s and {name}'s")
                taken[number] = name
        for other in service.get("depends_on", []):
            if other not in services:
                fail(f"{name} depends on {other}, which does not exist")
        if "build" in service:
            environment = service["environment"]
            lines = "".join(f"export {key}='{value}'\n" for key, value in environment.items())
            (pathlib.Path(folder) / f"{name}.env").write_text(lines)


{"same": same, "readme": readme, "compose": compose}[sys.argv[1]](*sys.argv[2:])
