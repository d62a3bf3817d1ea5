# Sourced by the scripts of `make e2e`: how they speak, and what both sides of the namespaces need.

bold='' plain=''
[ ! -t 1 ] || bold=$'\033[1m' plain=$'\033[0m'
say() { echo "$bold==> $*$plain"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# told WHAT: a line with the seconds since the last one.
step_started=$SECONDS
told() {
  echo "    ok, $((SECONDS - step_started)) s: $*"
  step_started=$SECONDS
}

# The mounted hierarchies of control groups: one with version 2, several with version 1.
cgroup_roots() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts; }
