# shellcheck shell=bash disable=SC2034,SC2154 # shares its variables with who sources it
# Sourced after common.sh by the scripts that run one Odradek replica on loopback.

# Children in a session of their own: Ctrl-C in the terminal reaches only the script, which ends
# them in order; and they never outlive it.
background() { setsid setpriv --pdeathsig KILL "$@" </dev/null 7>&- & }

# build_odradek CARGO_TARGET…: sets odradek to ODRADEK_BIN, or else to a fresh release build.
build_odradek() {
  odradek=${ODRADEK_BIN:-}
  [ -z "$odradek" ] || return 0
  say "Odradek: release build (a few minutes the first time)"
  (cd "$root" && cargo build --release --locked "$@")
  odradek=${CARGO_TARGET_DIR:-$root/target}/release/odradek
}

replicas=()

# start_replica DIR KAFKA PORT YAML [ZONE NAME]: DIR gets odradek.yaml and odradek.log; takes 20
# ports from PORT on; sets proxy (where clients start) and replica (its pid).
start_replica() {
  local dir=$1 kafka=$2 port=$3 yaml=$4 zone=${5:-zone-1} name=${6:-odradek-0} log=$1/odradek.log
  cat >"$dir/odradek.yaml" <<Y
zone: $zone
replica: $name
kafka:
  bootstrapServers: [${kafka//,/, }]
listeners:
  bind: 127.0.0.1
  advertisedHost: 127.0.0.1
  bootstrapPort: $port
  nodePorts: $((port + 2))
  brokerPorts: $((port + 9))
admin: {bind: "127.0.0.1:$((port + 1))"}
$yaml
Y
  : >"$log"
  background "$odradek" serve "$dir/odradek.yaml" >>"$log" 2>&1
  replica=$!
  replicas+=("$replica")
  proxy=127.0.0.1:$port
  for ((n = 0; n < 300; n++)); do
    if grep -qw ready "$log"; then return 0; fi
    kill -0 "$replica" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  die "the replica did not become ready; see $log"
}

# stop_replicas: drains all of them.
stop_replicas() {
  local pid
  for pid in "${replicas[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${replicas[@]}"; do wait "$pid" 2>/dev/null || true; done
  replicas=()
}
