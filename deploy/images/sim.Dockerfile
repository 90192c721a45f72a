ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/twofold \
 && /opt/twofold/bin/pip install --no-cache-dir -c constraints.txt ".[pools,sim]" "ray[default]"

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/twofold /opt/twofold
ENV PATH=/opt/twofold/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
# Ray's head, one of its nodes or the pool manager: whichever a pod starts.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-c", "import socket as s; exit(all(s.socket().connect_ex((\"127.0.0.1\", port)) for port in (6379, 6380, 50051)))"]
