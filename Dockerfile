# The server with everything it needs, run by a user that owns nothing else. `docs/deploy.md` says what to set.
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY server server
RUN python -m venv /opt/connector-mcp \
 && /opt/connector-mcp/bin/pip install --no-cache-dir ".[otel,postgres]"

FROM python:3.11-slim
# A number, so that Kubernetes can tell that it is not root.
RUN useradd --system --uid 10001 --home-dir /var/lib/connector-mcp --create-home connector-mcp
COPY --from=build /opt/connector-mcp /opt/connector-mcp
ENV PATH=/opt/connector-mcp/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CONNECTOR_MCP_HOST=0.0.0.0 \
    CONNECTOR_MCP_PORT=8765 \
    CONNECTOR_MCP_STATE_DIR=/var/lib/connector-mcp
USER 10001:10001
WORKDIR /var/lib/connector-mcp
VOLUME /var/lib/connector-mcp
EXPOSE 8765
# http.client asks no proxy, which urllib would where one is set for the way out.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['CONNECTOR_MCP_PORT']), timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["connector-mcp"]
CMD ["serve", "--http"]
