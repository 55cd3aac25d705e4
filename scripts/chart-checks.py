#!/usr/bin/env python3
"""What chart.sh asks of YAML files.

  same A B           both hold the same objects, in whatever order and layout
  readme             the values that README.md shows are those that are tested, and under 25 lines
  policy FILE        each NetworkPolicy opens Kafka's ports to clients, the peers' port to replicas of
                     the zone and the admin port to nobody else than `operators`
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


def permits(policy, port, source):
    """Whether a policy lets `source`, the labels of a pod or None for any other peer, connect to a port."""
    for rule in policy["spec"]["ingress"]:
        ranges = [(p["port"], p.get("endPort", p["port"])) for p in rule.get("ports", [])]
        if ranges and not any(first <= port <= last for first, last in ranges):
            continue
        if "from" not in rule:
            return True
        for peer in rule["from"]:
            wanted = peer.get("podSelector", {}).get("matchLabels")
            if wanted is not None and source is not None and wanted.items() <= source.items():
                return True
    return False


def policy(path):
    rows = objects(path)
    policies = [row[2] for row in rows if row[0] == "NetworkPolicy"]
    if not policies:
        fail(f"{path} has no NetworkPolicy")
    for it in policies:
        labels = it["spec"]["podSelector"]["matchLabels"]
        [zone] = [r[2] for r in rows if r[0] in ("Deployment", "StatefulSet") and r[1] == it["metadata"]["name"]]
        containers = zone["spec"]["template"]["spec"]["containers"]
        ports = {p["name"]: p["containerPort"] for c in containers for p in c["ports"]}
        other = {**labels, "odradek/zone": "another"}
        # By name of the port: a client, a replica of the zone, a replica of another zone.
        expected = {"admin": (False, False, False), "peers": (False, True, False)}
        for name, port in ports.items():
            seen = tuple(permits(it, port, source) for source in (None, labels, other))
            if seen != expected.get(name, (True, True, True)):
                fail(f"{it['metadata']['name']}: port {name} ({port}) is open to client, replica, other zone: {seen}")
        for port in (9100, 9299, 9300, 9363):
            if not permits(it, port, None):
                fail(f"{it['metadata']['name']}: clients cannot reach port {port}")


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


{"same": same, "readme": readme, "policy": policy, "compose": compose}[sys.argv[1]](*sys.argv[2:])
