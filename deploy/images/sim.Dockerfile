ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
ARG RAY_VERSION
WORKDIR /source
COPY . .
RUN python -m venv /opt/twofold \
 && sed 's/==\(.*\)+cpu/==\1/' constraints.txt > /tmp/constraints.txt \
 && /opt/twofold/bin/pip install --no-cache-dir -c /tmp/constraints.txt ".[router,sim]" "aiohttp>=3.13" "ray[default]==${RAY_VERSION}"

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/twofold /opt/twofold
ENV PATH=/opt/twofold/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
# Ray, or the pool manager: whichever a pod starts.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-c", "import socket; socket.create_connection((\"127.0.0.1\", 6379), 4).close()"]
