"""The shell texts that run on a board: looking, receiving files, a locked session. Plain sh, also busybox's.

Each keeps what it makes below one folder under names that end in its process number (``run.N``, ``.part.N``), so that
a later session can tell what a dead one left, and take it away.
"""

from __future__ import annotations

MARK = "@@ptqbridge "
"""Begins our own lines; the text of every script holds it, which is how a living one is told from a reused number."""

PATIENCE_S = 30
"""A session that hears nothing from us for so long takes us for dead, where the board has ``timeout``."""

_TOOLS = r"""
m='@@ptqbridge '
alive() {
  case $1 in ''|*[!0-9]*) return 1;; esac
  [ -d "/proc/$1" ] || return 1
  [ ! -r "/proc/$1/cmdline" ] || grep -q '@@ptqbridge' "/proc/$1/cmdline"
}
hunt() {
  for q in /proc/[0-9]*; do
    case $(readlink "$q/cwd" 2>/dev/null) in "$1"|"$1"/*) kill -s "$2" "${q#/proc/}" 2>/dev/null;; esac
  done
}
"""

LOOK = (
    _TOOLS
    + r"""
dir=${1:-${HOME:-/root}/.cache/ptqbridge}; shift
mkdir -p "$dir" && dir=$(cd "$dir" && pwd -P) || exit 3
tool=$(command -v hrt_model_exec) || for t in /usr/hobot/bin/hrt_model_exec /usr/bin/hrt_model_exec; do
  [ -x "$t" ] && tool=$t && break; done
echo "${m}dir $dir"; echo "${m}tool $tool"; echo "${m}machine $(uname -m)"
echo "${m}free $(df -P -k "$dir" | tail -n 1 | tr -s ' ' | cut -d ' ' -f 4)"
for name in "$@"; do [ -e "$dir/$name" ] && echo "${m}have $name"; done; echo "${m}ready"
"""
)
"""Words: folder for files ("" for the usual one), names to look for."""

SEND = r"""
dir=$1; part=$dir/.part.$$; shift
trap 'cd /; rm -rf "$part"' EXIT; trap 'exit 1' HUP INT TERM PIPE
mkdir "$part" && cd "$part" && tar -x -o -f - || exit 4
sha256sum -c .sums > .checked 2>&1 || { echo "the files arrived damaged"; exit 5; }
for name in "$@"; do [ -e "$dir/$name" ] || mv "$name" "$dir/$name" || exit 4; done; echo "@@ptqbridge sent"
"""
"""Words: folder, names. Input: a tar with those names and ``.sums``. Puts every one there whole, or none."""

FORGET = (
    _TOOLS
    + r"""
dir=$1; lock=$2; tries=0; shift 2
while alive "$(readlink "$lock" 2>/dev/null)"; do
  tries=$((tries + 1)); [ $tries -gt 25 ] && exit 0; sleep 0.2 || sleep 1
done
cd "$dir" && rm -rf -- "$@"
"""
)
"""Words: folder, lock, names. Our own session may be about to end; while another's runs, all is left, as it may use the
same files."""

_SESSION = r"""
dir=$1; lock=$2; work=$dir/run.$$; mine=; held=; guard=
cleanup() {
  trap '' HUP INT TERM PIPE
  cd /; [ -n "$mine" ] && { kill -s TERM "$mine" 2>/dev/null; hunt "$work" TERM; sleep 0.2; hunt "$work" KILL; }
  rm -rf "$work"; [ -n "$held" ] && rm -f "$lock"; [ -n "$guard" ] && kill "$guard" 2>/dev/null
}
trap cleanup EXIT; trap 'exit 130' HUP INT TERM PIPE
take() { ln -s $$ "$lock" 2>/dev/null && held=1; }
[ -e "$lock" ] && [ ! -L "$lock" ] && { echo "${m}locked $lock"; exit 75; }
if ! take; then
  other=$(readlink "$lock" 2>/dev/null)
  if alive "$other"; then echo "${m}busy $other"; exit 75; fi
  alive "$(readlink "$lock.take" 2>/dev/null)" || rm -f "$lock.take"
  if ln -s $$ "$lock.take" 2>/dev/null; then
    [ "$(readlink "$lock" 2>/dev/null)" = "$other" ] && rm -f "$lock"
    take; rm -f "$lock.take"
  fi
  [ -n "$held" ] || { echo "${m}locked $lock"; exit 75; }
fi
for left in "$dir"/run.* "$dir"/.part.*; do
  [ -e "$left" ] || continue
  alive "${left##*.}" || { hunt "$left" KILL; rm -rf "$left"; }
done
mkdir "$work" && cd "$work" || exit 4
exec 3<&0; main=$$
listen() {
  cd /
  if timeout 5 true 2>/dev/null; then
    while [ -n "$(timeout @PATIENCE@ dd bs=64 count=1 2>/dev/null <&3)" ] && [ -d /proc/$main ]; do :; done
  else cat <&3; fi
  kill -s TERM $main && return
  hunt "$work" KILL; rm -rf "$work"; [ "$(readlink "$lock")" = $main ] && rm -f "$lock"
}
listen >/dev/null 2>&1 & guard=$!
step() {
  n=$1; shift; echo "${m}start $n"; "$@" 2>&1 </dev/null 3<&- & mine=$!; wait $mine; s=$?; mine=
  echo; echo "${m}status $n $s"; return $s
}
give() { for f in "$@"; do [ -f "$f" ] || continue; echo "${m}file $f"; base64 "$f"; echo "${m}close $f"; done; }
"""


def session(steps: str) -> str:
    """A session that holds the board's lock while it does ``steps``. Words: folder, lock.

    The lock is a symbolic link to its owner's process number, which is made with its content at once; a dead owner's
    is taken over by whoever makes the second link. What it started is ended by the folder it works in, so that
    children of the tool go with it. Its input is our voice: when that ends or, where ``timeout`` is there, stays
    silent too long, the session ends itself; and whoever listens for us cleans up when the session itself was killed.
    """
    return f'{_TOOLS}{_SESSION.replace("@PATIENCE@", str(PATIENCE_S))}\n{steps}\necho "${{m}}end"\n'
