# syntax=docker/dockerfile:1
# Three targets:
#   docker build --target cpu -t sightword:cpu .
#   docker build --target gpu -t sightword:gpu .
#   docker build --target pull -t sightword:pull .    brings published models to /models, where the others find them
# The bundled checkpoint is inside. To serve another: mount its folder, or /models, and set SIGHTWORD_MODEL.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# onnxruntime-gpu is built for CUDA 13 and cuDNN 9. Ubuntu 24.04 brings Python 3.12.
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04

FROM ${PYTHON_IMAGE} AS cpu-base

FROM ${CUDA_IMAGE} AS gpu-base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM cpu-base AS cpu-build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/sightword \
    && /opt/sightword/bin/pip install --disable-pip-version-check --constraint constraints.txt ".[cpu]"

FROM gpu-base AS gpu-build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/sightword \
    && /opt/sightword/bin/pip install --disable-pip-version-check --constraint constraints.txt ".[gpu]"

FROM cpu-build AS pull-build
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/sightword/bin/pip install --disable-pip-version-check --constraint constraints.txt torch==2.13.0 \
    && /opt/sightword/bin/pip install --disable-pip-version-check --constraint constraints.txt ".[cpu,convert]"

# What follows is the same for all: nothing but the environment is copied, and nobody is root.

FROM cpu-base AS pull
COPY --from=pull-build /opt/sightword /opt/sightword
RUN install --directory --owner=10001 --group=10001 /models
ENV PATH=/opt/sightword/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SIGHTWORD_HOME=/models
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python3", "-m", "model", "pull"]

FROM cpu-base AS cpu
COPY --from=cpu-build /opt/sightword /opt/sightword
COPY deploy/healthcheck.py /opt/sightword/healthcheck.py
RUN install --directory --owner=10001 --group=10001 /models
ENV PATH=/opt/sightword/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SIGHTWORD_HOME=/models \
    SIGHTWORD_HOST=0.0.0.0 \
    SIGHTWORD_PORT=8000 \
    SIGHTWORD_PROVIDER=cpu
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python3", "/opt/sightword/healthcheck.py"]
ENTRYPOINT ["python3", "-m", "service"]

FROM gpu-base AS gpu
COPY --from=gpu-build /opt/sightword /opt/sightword
COPY deploy/healthcheck.py /opt/sightword/healthcheck.py
RUN install --directory --owner=10001 --group=10001 /models
# Naming the provider makes a missing driver or library an error at start, not a slow service.
ENV PATH=/opt/sightword/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SIGHTWORD_HOME=/models \
    SIGHTWORD_HOST=0.0.0.0 \
    SIGHTWORD_PORT=8000 \
    SIGHTWORD_PROVIDER=cuda
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=6s --start-period=120s --retries=3 \
    CMD ["python3", "/opt/sightword/healthcheck.py"]
ENTRYPOINT ["python3", "-m", "service"]
