ARG VLLM_IMAGE
FROM ${VLLM_IMAGE} AS build
WORKDIR /source
COPY . .
# For what builds our package; older pips read the one for that, newer ones the other.
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_BUILD_CONSTRAINT=/source/constraints.txt
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
 && python3 deploy/images/pins.py < constraints.txt > /wheel/pins.txt

FROM ${VLLM_IMAGE}
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    python3 -m pip install --no-cache-dir -c /wheel/pins.txt "$(echo /wheel/twofold-*.whl)[worker]" "ray[default]" \
 && (command -v python || ln -s "$(command -v python3)" /usr/local/bin/python)
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
# Ray's head, one of its nodes or the pool manager: whichever a pod starts.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-c", "import socket as s; exit(all(s.socket().connect_ex((\"127.0.0.1\", port)) for port in (6379, 6380, 50051)))"]
ENTRYPOINT []
