#!/bin/sh
# Draws Redis's password the first time the project starts, and keeps it from then on. In two volumes: /redis has
# the line that Redis reads, /service the address that the service reads (as it reads any setting from /run/secrets).
# Change it: docker compose down, docker volume rm sightword_redis-secrets sightword_service-secrets, docker compose up.
set -eu
[ -s /redis/redis.conf ] && [ -s /service/sightword_redis_url ] && exit 0
umask 077
password=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
[ "${#password}" = 64 ]
echo "requirepass $password" >/redis/redis.conf
printf 'redis://:%s@redis:6379/0' "$password" >/service/sightword_redis_url
chown 999:999 /redis /redis/redis.conf
chown 10001:10001 /service /service/sightword_redis_url
