# Compliance archiver. Build: docker build -t compliance-archiver .   Run: see config/compose.yaml
# Two stages: the first resolves the locked packages, the second holds nothing but Python, those packages and the archiver.
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements-runtime.lock requirements-build.lock ./
RUN python -m venv /opt/archiver \
 && /opt/archiver/bin/pip install --require-hashes --only-binary :all: -r requirements-runtime.lock
COPY archiver ./archiver
COPY migrations ./migrations
COPY config ./config
RUN python -m pip install --require-hashes --only-binary :all: -r requirements-build.lock \
 && python -m pip wheel --no-deps --no-build-isolation -w /dist . \
 && /opt/archiver/bin/pip install --no-deps /dist/*.whl \
 && /opt/archiver/bin/pip uninstall -y pip

FROM python:${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="compliance-archiver" \
      org.opencontainers.image.description="Saves call recordings before the telephony provider deletes them" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# A fixed, unprivileged identity; the root file system may be read-only: all state lies in the one volume.
RUN groupadd --gid 10001 archiver \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/archiver --shell /usr/sbin/nologin archiver \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/archiver \
 && install -d -m 0755 /etc/archiver
COPY --from=build /opt/archiver /opt/archiver
# Many threads pass large buffers on: with an arena for each, glibc keeps a seventh more memory than is in use.
ENV PATH=/opt/archiver/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ARCHIVER_CONFIG=/etc/archiver/archiver.yaml \
    MALLOC_ARENA_MAX=2
USER 10001:10001
WORKDIR /var/lib/archiver
VOLUME /var/lib/archiver
EXPOSE 8484
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["archiver", "healthcheck"]
ENTRYPOINT ["archiver"]
CMD ["run"]
