ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY . .
# Also for what builds our package; older pips read the one for that, newer ones the other.
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_BUILD_CONSTRAINT=/source/constraints.txt
RUN python -m venv /opt/twofold \
 && /opt/twofold/bin/pip install --no-cache-dir ".[pools,sim]" "ray[default]"

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/twofold /opt/twofold
# Debian's /etc/profile sets PATH anew in a login shell, in which KubeRay before 1.4 starts Ray.
RUN echo 'PATH=/opt/twofold/bin:$PATH' > /etc/profile.d/twofold.sh
ENV PATH=/opt/twofold/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
# Ray's head, one of its nodes or the pool manager: whichever a pod starts.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-c", "import socket as s; exit(all(s.socket().connect_ex((\"127.0.0.1\", port)) for port in (6379, 6380, 50051)))"]
