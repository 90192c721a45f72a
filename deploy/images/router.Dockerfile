ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY . .
# Also for what builds our package; older pips read the one for that, newer ones the other.
ENV PIP_CONSTRAINT=/source/constraints.txt PIP_BUILD_CONSTRAINT=/source/constraints.txt
RUN python -m venv /opt/twofold \
 && /opt/twofold/bin/pip install --no-cache-dir ".[router]"

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/twofold /opt/twofold
ENV PATH=/opt/twofold/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /tmp
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen(\"http://127.0.0.1:8000/health\", timeout=4)"]
ENTRYPOINT ["python", "-m", "twofold_router"]
