#!/usr/bin/env bash
# `make manifests`: renders the chart into plain manifests, for clusters without Helm.
#   manifests.sh FILE   writes there instead
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"
to=${1:-deploy/manifests/odradek.yaml}
{
  echo "# Rendered from helm/odradek with deploy/manifests/values.yaml by \`make manifests\`; change those."
  echo "# kubectl create namespace odradek && kubectl apply --namespace odradek -f deploy/manifests/odradek.yaml"
  "$cache/tools/helm3/helm" template odradek helm/odradek --kube-version 1.35.0 --namespace odradek --skip-tests \
    -f deploy/manifests/values.yaml
} >"$to"
