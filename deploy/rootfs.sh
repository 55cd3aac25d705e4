#!/usr/bin/env bash
# rootfs.sh BINARY DIR: collects in DIR everything that an image of Odradek holds, and nothing else:
# the binary, the libraries that it is linked with, the public certificate authorities, its user.
# Used by deploy/Dockerfile where the binary is built, and by scripts/image.sh on the host.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../scripts/common.sh"
[ $# = 2 ] || die "usage: rootfs.sh BINARY DIR"
binary=$1 dir=$2
authorities=/etc/ssl/certs/ca-certificates.crt
[ -s "$authorities" ] || die "$authorities is missing; install ca-certificates"
[ ! -e "$dir" ] || die "$dir is there already"

# add MODE FILE [AS]: as a file of its own, for in DIR no link of the host leads anywhere.
add() { install -D -m "$1" "$(readlink -f "$2")" "$dir${3:-$2}"; }

add 755 "$binary" /usr/local/bin/odradek
# The lines of debug information are four fifths of the binary; the names in backtraces stay.
strip --strip-debug "$dir/usr/local/bin/odradek"

# A static binary has none, and ldd says so by its exit code.
libraries=$(ldd "$binary") || note "$binary is linked with nothing"
[[ $libraries != *"not found"* ]] || die "a library is missing: $libraries"
awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }' <<<"$libraries" | while read -r library; do
  add 755 "$library"
done

add 644 "$authorities"
for package in libc6 libgcc-s1 ca-certificates; do
  [ ! -e "/usr/share/doc/$package/copyright" ] || add 644 "/usr/share/doc/$package/copyright"
done
add 644 "$root/LICENSE" /usr/share/doc/odradek/LICENSE
add 644 "$root/NOTICE" /usr/share/doc/odradek/NOTICE

printf 'root:x:0:0::/:/nologin\nodradek:x:65532:65532::/:/nologin\n' >"$dir/etc/passwd"
printf 'root:x:0:\nodradek:x:65532:\n' >"$dir/etc/group"
# Without it glibc asks the name server for `localhost` before it reads /etc/hosts.
printf 'hosts: files dns\n' >"$dir/etc/nsswitch.conf"
chmod 644 "$dir"/etc/passwd "$dir"/etc/group "$dir"/etc/nsswitch.conf
