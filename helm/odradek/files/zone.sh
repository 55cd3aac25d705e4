# shellcheck shell=sh
# Writes the zone of this pod's node into the configuration. Runs in an init container if
# `zoneSource` is `node`. An init container cannot set an environment variable, but it can write a file.
set -eu
: "${TEMPLATE:=/etc/odradek-template/odradek.yaml}" "${TARGET:=/etc/odradek/odradek.yaml}"
zone=$(kubectl get node "$NODE_NAME" --output 'jsonpath={.metadata.labels.topology\.kubernetes\.io/zone}')
if [ -z "$zone" ]; then
  echo "node $NODE_NAME has no label topology.kubernetes.io/zone" >&2
  exit 1
fi
sed "s|[$]{ODRADEK_ZONE[^}]*}|$zone|" "$TEMPLATE" >"$TARGET"
echo "zone $zone, from the label of node $NODE_NAME"
