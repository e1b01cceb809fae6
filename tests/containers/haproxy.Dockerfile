# Debian's build in place of the official image, for machines that cannot pull it.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
USER 100:101
