#!/bin/sh
# Replaces every replica of the profile `replicas` by a new one, of the image and settings of now, without losing a request:
#   docker compose build replica && deploy/compose/roll.sh
# As many new ones are started beside the old ones, so there must be memory for both. Options are those of docker compose.
set -eu
compose() { docker compose "$@" ; }
old=$(compose "$@" --profile replicas ps --quiet replica)
[ -n "$old" ] || { echo "no replica runs: docker compose --profile replicas up -d balancer" >&2; exit 1; }
count=$(echo "$old" | wc -l)
compose "$@" --profile replicas up --detach --no-deps --no-recreate --wait --scale "replica=$((2 * count))" replica
sleep 3 # the balancer asks for addresses once a second, and for readiness three times
for container in $old; do
  # Ready turns 503, the balancer moves on, what was accepted is finished: the time that compose gives.
  docker stop --time 40 "$container" >/dev/null
  docker rm "$container" >/dev/null
  echo "replaced $(echo "$container" | cut -c1-12)"
done
