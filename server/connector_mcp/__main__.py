"""`python -m connector_mcp` is `connector-mcp`."""

from connector_mcp.cli.main import main

if __name__ == "__main__":
    main()
