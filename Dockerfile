# Built from the root of the repository: docker build -t enricher .
FROM python:3.13-slim-bookworm AS build

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY enricher ./enricher
RUN python -m venv /opt/enricher \
    && /opt/enricher/bin/pip install --no-cache-dir '.[otel,search,web,zstd]'

FROM python:3.13-slim-bookworm

COPY --from=build /opt/enricher /opt/enricher
# The defaults; mount a folder of your own over /etc/enricher to change them. Secrets come as
# ENRICHER_REDIS__URL and ENRICHER_MONGO__URL.
COPY config.toml /etc/enricher/config.toml
ENV PATH=/opt/enricher/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ENRICHER_CONFIG=/etc/enricher/config.toml

# A number, not a name: Kubernetes can tell only from a number that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
# The web app, where web.listen says so.
EXPOSE 5555
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "enricher", "health"]
ENTRYPOINT ["python", "-m", "enricher"]
CMD ["run"]
