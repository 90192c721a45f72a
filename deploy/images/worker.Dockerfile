ARG VLLM_IMAGE
FROM ${VLLM_IMAGE}
ARG RAY_VERSION
COPY . /source
RUN pip install --no-cache-dir "/source[worker]" "ray[default]==${RAY_VERSION}" \
 && rm -r /source \
 && (command -v python || ln -s "$(command -v python3)" /usr/local/bin/python)
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-c", "import socket; socket.create_connection((\"127.0.0.1\", 6379), 4).close()"]
ENTRYPOINT []
