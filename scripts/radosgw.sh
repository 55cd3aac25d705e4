#!/usr/bin/env bash
# A Ceph object gateway on loopback, in memory, for tests: a second implementation of S3.
#
#   radosgw.sh DIR PORT ACCESS_KEY SECRET_KEY
#
# Runs in the foreground until it is killed; its daemons are killed with it. It listens at
# http://127.0.0.1:PORT within about 15 s. DIR holds its configuration and logs and may be
# deleted afterwards. Needs radosgw ceph-common ceph-mon ceph-osd (`make setup`).
set -euo pipefail
dir=$1 port=$2 access_key=$3 secret_key=$4
monitor_port=$((port > 40000 ? port - 20000 : port + 20000))
libraries=/usr/lib/$(uname -m)-linux-gnu
mkdir -p "$dir"/{run,log,mon,osd,rgw}
export CEPH_CONF=$dir/ceph.conf

# No daemon outlives this script.
daemon() { setpriv --pdeathsig KILL "$@" >"$dir/log/$1.out" 2>&1 & }
quietly() {
  setpriv --pdeathsig KILL "$@" >"$dir/log/setup.out" 2>&1 || { cat "$dir/log/setup.out" >&2; exit 1; }
}

# One monitor and one OSD whose disk is memory. cephx stays on: the gateway refuses without it.
cat > "$CEPH_CONF" <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = 127.0.0.1:$monitor_port
mon initial members = a
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 1
auth allow insecure global id reclaim = false
public addr = 127.0.0.1
keyring = $dir/keyring
run dir = $dir/run
admin socket = $dir/run/\$name.asok
pid file = $dir/run/\$name.pid
log file = $dir/log/\$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
osd class dir = $libraries/rados-classes
erasure code dir = $libraries/ceph/erasure-code
plugin dir = $libraries/ceph
[mon.a]
mon data = $dir/mon
mon addr = 127.0.0.1:$monitor_port
[osd.0]
osd data = $dir/osd
[client.rgw]
rgw data = $dir/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
rgw override bucket index max shards = 1
rgw enable usage log = false
CONF

grant() { quietly ceph-authtool "$dir/keyring" --gen-key --name "$1" "${@:2}"; }
quietly ceph-authtool --create-keyring "$dir/keyring" --gen-key --name mon. --cap mon 'allow *'
grant client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
grant client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
grant osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'

fsid=$(sed -n 's/^fsid = //p' "$CEPH_CONF")
quietly monmaptool --create --clobber --add a "127.0.0.1:$monitor_port" --fsid "$fsid" "$dir/monmap"
quietly ceph-mon --mkfs --id a --monmap "$dir/monmap" --keyring "$dir/keyring"
daemon ceph-mon --id a --foreground
quietly ceph osd create
quietly ceph-osd --id 0 --mkfs
daemon ceph-osd --id 0 --foreground
quietly radosgw-admin --name client.rgw user create --uid tests --display-name tests \
  --access-key "$access_key" --secret-key "$secret_key"
daemon radosgw --name client.rgw --foreground
wait
