# streamd as a container, and the roles of examples/roles.py as another: `docker compose up -d` builds both from source.
# Any Debian with Python 3.11 or newer will do as BASE; BUILD_BASE needs a C compiler as well, unless a wheel is given.
ARG BASE=python:3.13-slim-bookworm
ARG BUILD_BASE=python:3.13-bookworm

FROM ${BUILD_BASE} AS build
# What is installed: the sources here, or the wheel that `make wheel` has left in dist/.
ARG WHEEL=.
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/streamd \
  && /opt/streamd/bin/pip install -q --no-cache-dir -c requirements.lock --upgrade pip \
  && /opt/streamd/bin/pip install -q --no-cache-dir -c requirements.lock --build-constraint requirements.lock "${WHEEL}"

FROM build AS build-roles
RUN /opt/streamd/bin/pip install -q --no-cache-dir -c requirements.lock nats-py

FROM ${BASE} AS roles
COPY --from=build-roles /opt/streamd /opt/streamd
COPY examples/roles.py /opt/roles.py
USER nobody
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["/opt/streamd/bin/python", "/opt/roles.py"]

FROM ${BASE} AS streamd
COPY --from=build /opt/streamd /opt/streamd
# A new volume is owned by whoever owns the directory that it covers.
RUN install -d -o nobody -g nogroup /data
USER nobody
VOLUME /data
EXPOSE 4222 6222 8222
ENTRYPOINT ["/opt/streamd/bin/streamd"]
CMD ["-js", "-sd", "/data", "-m", "8222"]
