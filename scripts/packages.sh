#!/bin/sh
# Install packages of Debian or Ubuntu, as root or by sudo: scripts/packages.sh NAME...
set -eu
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq "$@"
