#!/usr/bin/env bash
# rootfs.sh BINARY DIR: collects all files of an image of Odradek in DIR:
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

# add MODE FILE [AS]: copies the target of links, because links of the host are not valid in DIR.
add() { install -D -m "$1" "$(readlink -f "$2")" "$dir${3:-$2}"; }

add 755 "$binary" /usr/local/bin/odradek
# Line information is four fifths of the binary; function names in backtraces are kept.
strip --strip-debug "$dir/usr/local/bin/odradek"

# A static binary has no libraries, and ldd then exits with an error.
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
# Without this file glibc queries the name server for `localhost` before it reads /etc/hosts.
printf 'hosts: files dns\n' >"$dir/etc/nsswitch.conf"
chmod 644 "$dir"/etc/passwd "$dir"/etc/group "$dir"/etc/nsswitch.conf
