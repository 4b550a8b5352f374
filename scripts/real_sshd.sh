#!/usr/bin/env bash
# Makes sure that OpenSSH's server is there for the tests of the board path; prints its path, or nothing when it cannot
# be had (those tests are then skipped with a reason). Only the program is wanted: no service is started.
set -eu
if ! command -v /usr/sbin/sshd > /dev/null; then
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openssh-server
  } > /dev/null 2>&1 || echo "real_sshd.sh: openssh-server could not be installed" >&2
fi
command -v /usr/sbin/sshd || true
