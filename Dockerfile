# One image for gateway, meter, demo provider and the command line: `docker build -t arouter:dev .`
# `--build-arg PIP_INDEX_URL=…` builds from another index; the address does not stay in the image.
FROM python:3.11-slim AS build
ARG PIP_INDEX_URL
WORKDIR /src
RUN python -m venv --without-pip /opt/arouter
COPY requirements.lock ./
RUN pip --python /opt/arouter/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY shared shared
RUN pip --python /opt/arouter/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
    && pip --python /opt/arouter/bin/python uninstall --yes setuptools \
    && /opt/arouter/bin/python -m compileall -q /opt/arouter/lib \
    && /opt/arouter/bin/python -c "from pathlib import Path; from services.meter.estimate import tokens; tokens.load(Path('/opt/arouter/ranks'))"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/arouter --create-home arouter \
    && mkdir /var/lib/arouter/journal && chown arouter:arouter /var/lib/arouter/journal \
    && { pip uninstall --yes pip setuptools wheel || true; }
COPY --from=build /opt/arouter /opt/arouter
ENV PATH=/opt/arouter/bin:$PATH PYTHONDONTWRITEBYTECODE=1 AROUTER_DATA_DIR=/var/lib/arouter AROUTER_RANKS_DIR=/opt/arouter/ranks
USER 10001:10001
WORKDIR /var/lib/arouter
# arouter needs no init: it ends on SIGTERM and has no children.
ENTRYPOINT ["arouter"]
CMD ["gateway"]
