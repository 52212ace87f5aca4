# syntax=docker/dockerfile:1
# One image for every service of docker-compose.yml.
#
# As it is, pip takes the default build of torch, which runs on NVIDIA GPUs and, where there is none, on the CPU.
# For a much smaller image without GPU, give the index of torch's CPU builds:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... .
ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim AS build
ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/facet
ENV PATH=/opt/facet/bin:$PATH
WORKDIR /src
# The dependencies make the big layer; it is built again only when one of these files changes.
COPY pyproject.toml setup.py constraints.txt ./
RUN touch README.md LICENSE NOTICE \
 && mkdir facet worker models training db \
 && pip install --constraint constraints.txt '.[monitor,s3,web]' \
 && pip uninstall --yes facet
COPY . .
RUN pip install --no-deps .

FROM python:${PYTHON_VERSION}-slim
# Pillow loads FriBidi where it is there, to join Arabic letters on contact sheets and annotated videos.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libfribidi0 \
 && rm -rf /var/lib/apt/lists/*
# Media have to be readable for this user; its number may be that of their owner.
ARG FACET_UID=10001
RUN useradd --uid "$FACET_UID" --create-home facet \
 && install --directory --owner facet --group facet /var/lib/facet
COPY --from=build /opt/facet /opt/facet
ENV PATH=/opt/facet/bin:$PATH \
    FACET_HOME=/var/lib/facet \
    FACET_DATABASE_KEEP_SECONDS=0 \
    PYTHONUNBUFFERED=1
USER facet
WORKDIR /var/lib/facet
VOLUME /var/lib/facet
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s --retries=3 CMD ["facet", "db", "check"]
CMD ["facet", "worker"]
