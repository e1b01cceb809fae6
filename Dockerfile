# Six targets. The bundled checkpoint is inside each; to serve another, mount its folder, or /models, and set SIGHTWORD_MODEL.
#   docker build --target cpu -t sightword:cpu .              the service
#   docker build --target gpu -t sightword:gpu .              the service for NVIDIA GPUs: CUDA 13.0 and cuDNN 9 by pip, no TensorRT
#   docker build --target pull -t sightword:pull .            brings published models to /models, where the service finds them
#   docker build --target training -t sightword:training .    python -m training
#   docker build --target ray -t sightword:ray .              the service on a Ray cluster: a node of it, and what runs there
#   docker build --target ray-gpu -t sightword:ray-gpu .      the same for NVIDIA GPUs
# Where pip shall look for a torch without CUDA, besides the index: --build-arg PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS.
# For a release, give the base by digest: --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# The environment has no pip: the one of the base image, which no target keeps, installs into it.
RUN python3 -m venv --without-pip /opt/sightword
ENV PIP_PYTHON=/opt/sightword/bin/python \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT=/src/constraints.txt
COPY pyproject.toml constraints.txt deploy/requirements.py ./

# What others wrote comes first, so that a change of our code installs none of it again.
FROM build AS cpu-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py cpu >cpu.txt \
    && python3 -m pip install --requirement cpu.txt \
    && find /opt/sightword -type d -name tests -prune -exec rm -rf {} +

FROM build AS gpu-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py gpu >gpu.txt \
    && python3 -m pip install --requirement gpu.txt \
    && find /opt/sightword -type d -name tests -prune -exec rm -rf {} +

# torch by itself first: other packages would accept, and fetch, any newer build of it.
FROM cpu-packages AS convert-packages
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py cpu convert >convert.txt \
    && grep ^torch== convert.txt >torch.txt \
    && python3 -m pip install --requirement torch.txt \
    && python3 -m pip install --requirement convert.txt

# With the libraries that build what our networks do not compute. torchvision comes from where torch came from.
FROM convert-packages AS pull-packages
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py cpu convert-all >pull.txt && python3 -m pip install --requirement pull.txt

FROM convert-packages AS training-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py cpu convert training tracing >training.txt && python3 -m pip install --requirement training.txt

# Ray, to be laid over either environment of the service: only what neither has, since onnxruntime is all that tells them apart.
FROM cpu-packages AS ray-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py ray >ray.txt \
    && python3 -m pip install --prefix /ray --requirement ray.txt \
    && find /ray -type d -name tests -prune -exec rm -rf {} +

# Our own packages, to be laid over an environment.
FROM build AS code
COPY LICENSE NOTICE README.md ./
COPY model model
COPY service service
COPY sightword sightword
COPY training training
RUN python3 -m pip install --no-cache-dir --no-deps --prefix /code .

# What every target is: read-only, nobody's, without pip.
FROM ${PYTHON_IMAGE} AS runtime
RUN python3 -m pip --version >/dev/null \
    && rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip \
       /usr/lib/python3/dist-packages/pip* /usr/lib/python3/dist-packages/setuptools* /usr/lib/python3/dist-packages/wheel* \
       /usr/share/python-wheels /usr/local/bin/pip* /usr/local/bin/wheel /usr/bin/pip* \
    && install --directory --owner=10001 --group=10001 /models /runs
ENV PATH=/opt/sightword/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SIGHTWORD_HOME=/models \
    SIGHTWORD_HOST=0.0.0.0 \
    SIGHTWORD_PORT=8000
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sightword" \
      org.opencontainers.image.description="CLIP as a service: embeddings, similarity and zero-shot classification over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /tmp
USER 10001:10001

FROM runtime AS serving
COPY deploy/healthcheck.py /usr/local/lib/healthcheck.py
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=6s --start-period=120s --retries=3 \
    CMD ["python3", "/usr/local/lib/healthcheck.py"]
ENTRYPOINT ["python3", "-m", "service"]

FROM serving AS cpu
COPY --from=cpu-packages /opt/sightword /opt/sightword
COPY --from=code /code /opt/sightword
ENV SIGHTWORD_PROVIDER=cpu

FROM serving AS gpu
COPY --from=gpu-packages /opt/sightword /opt/sightword
COPY --from=code /code /opt/sightword
# Naming the provider makes a missing driver or library an error at start, not a slow service.
ENV SIGHTWORD_PROVIDER=cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# KubeRay says what runs in these, and checks it: nobody listens where the service's own check would ask.
FROM cpu AS ray
COPY --from=ray-packages /ray /opt/sightword
ENV RAY_USAGE_STATS_ENABLED=0
HEALTHCHECK NONE
ENTRYPOINT []

FROM gpu AS ray-gpu
COPY --from=ray-packages /ray /opt/sightword
ENV RAY_USAGE_STATS_ENABLED=0
HEALTHCHECK NONE
ENTRYPOINT []

FROM runtime AS pull
COPY --from=pull-packages /opt/sightword /opt/sightword
COPY --from=code /code /opt/sightword
ENTRYPOINT ["python3", "-m", "model", "pull"]

FROM runtime AS training
COPY --from=training-packages /opt/sightword /opt/sightword
COPY --from=code /code /opt/sightword
ENV SIGHTWORD_TRAINING_OUTPUT=/runs \
    MPLCONFIGDIR=/tmp
ENTRYPOINT ["python3", "-m", "training"]
