#!/usr/bin/env bash
# `make test-image`: lints the Dockerfile, builds its image from an existing binary, and runs it as the
# chart does: not as root, read-only, without capabilities, with little memory.
#   ODRADEK=…         the binary (target/release/odradek)
#   IMAGE_LIMIT_MB=…  the maximum size of the image (40)
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"
"$root/scripts/setup.sh" image
odradek=${ODRADEK:-$root/target/release/odradek}
[ -x "$odradek" ] || die "$odradek is missing; run: make build"

# A storage of its own, apart from the images of the user.
export STORAGE_DRIVER=vfs
state=$cache/image
work=$(mktemp -d)
mkdir -p "$state/root" "$state/run" "$work/context" "$work/etc" "$cache/log"
store=(--root "$state/root" --runroot "$state/run")
name=localhost/odradek-test:$$
container=odradek-test-$$
cleanup() {
  local code=$?
  podman_ rm --force --time 0 "$container" >/dev/null 2>&1 || true
  buildah "${store[@]}" rmi --force "$name" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$code"
}
trap cleanup EXIT
podman_() { podman "${store[@]}" --runtime runc --cgroup-manager cgroupfs "$@"; }
# The settings of the chart. Nested containers cannot have higher ulimits than these two.
restricted=(--read-only --cap-drop=all --security-opt no-new-privileges --memory 256m
  --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --volume "$work/etc:/etc/odradek:ro")
run() { podman_ run --rm --network none "${restricted[@]}" "$name" "$@" 2>&1; }

"$cache/tools/hadolint/bin/hadolint" --failure-threshold info deploy/Dockerfile || die "hadolint reports problems in deploy/Dockerfile"

deploy/rootfs.sh "$odradek" "$work/context/rootfs"
with_progress "$cache/log/image.log" "the image" buildah "${store[@]}" bud --isolation chroot --layers=false \
  --tag "$name" --file deploy/Dockerfile --target runtime-prebuilt "$work/context"

inspect() { podman_ image inspect --format "$1" "$name"; }
size=$(inspect '{{.Size}}')
limit=${IMAGE_LIMIT_MB:-40}
((size < limit * 1000000)) || die "the image has $((size / 1000000)) MB, the limit is $limit"
[ "$(inspect '{{.Config.User}}')" = 65532:65532 ] || die "the image does not run as 65532"
[ "$(inspect "{{len .RootFS.Layers}}")" -le 2 ] || die "the image has layers besides that of rootfs.sh and that of its settings"

cat >"$work/etc/odradek.yaml" <<'YAML'
zone: a
kafka: {bootstrapServers: ["127.0.0.1:1"]}
diskless: {topics: [{match: "logs.*"}]}
store: "memory:"
admin: {bind: "127.0.0.1:${ADMIN_PORT:-8180}"}
listeners: {bootstrapPort: "${BOOTSTRAP_PORT:-9092}"}
YAML
chmod 755 "$work" "$work/etc"
chmod 644 "$work/etc/odradek.yaml"

version=$(run --version) || die "--version failed: $version"
[[ $version == odradek\ [0-9]* ]] || die "unexpected output of --version: $version"
out=$(run validate /etc/odradek/odradek.yaml) || die "validate failed: $out"
# An invalid configuration must be rejected in the image as well, with its own exit code.
echo "kafak: {}" >>"$work/etc/odradek.yaml"
code=0
run validate /etc/odradek/odradek.yaml >/dev/null || code=$?
[ "$code" = 78 ] || die "validate of a mistake ended with $code, not with 78"
sed -i '$d' "$work/etc/odradek.yaml"

# On the network of the host, so that this script can query it; the image contains no HTTP client.
bootstrap=$("$root/scripts/free-ports.sh" 2)
admin=$((bootstrap + 1))
podman_ run --detach --name "$container" --network host "${restricted[@]}" \
  --env "ADMIN_PORT=$admin" --env "BOOTSTRAP_PORT=$bootstrap" "$name" >/dev/null
deadline=$((SECONDS + 20))
until curl -fsS "http://127.0.0.1:$admin/livez" >/dev/null 2>&1; do
  ((SECONDS < deadline)) || { podman_ logs "$container" >&2; die "/livez did not answer in 20 seconds"; }
  sleep 0.1
done
pid=$(podman_ inspect --format '{{.State.Pid}}' "$container")
awk '/^(Uid|Gid):/ && $2 != 65532 { exit 1 } /^CapEff:/ && $2 !~ /^0+$/ { exit 1 }' "/proc/$pid/status" ||
  { cat "/proc/$pid/status"; die "the process has privileges that it must not have"; }
podman_ stop --time 20 "$container" >/dev/null
code=$(podman_ inspect --format '{{.State.ExitCode}}' "$container")
[ "$code" = 0 ] || die "exit code after SIGTERM: $code, expected 0"
note "the image has $((size / 1000000)) MB, runs as 65532 on a read-only file system; its version is: $version"
