"""HTTP, TLS and compression are libraries' code: what `upstream/` imports shows it."""

import ast
import subprocess
import sys
from pathlib import Path

import connector_mcp.upstream

FOLDER = Path(connector_mcp.upstream.__file__).parent
OF_A_PROTOCOL = {
    "asyncio.streams", "brotli", "bz2", "compression", "gzip", "h11", "h2", "http", "httpcore", "httptools", "llhttp",
    "lzma", "select", "selectors", "socket", "zlib", "zstandard",
}  # fmt: skip
OF_SSL = {"SSLContext", "create_default_context", "SSLCertVerificationError"}


def trees() -> dict[str, ast.Module]:
    return {str(file.relative_to(FOLDER)): ast.parse(file.read_text()) for file in FOLDER.rglob("*.py")}


def imported(tree: ast.Module) -> set[str]:
    """The modules that a module imports, and the private names that it imports from them."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_imports_a_socket_a_parser_or_a_compression_library() -> None:
    for file, tree in trees().items():
        wrong = {name for name in imported(tree) if name in OF_A_PROTOCOL or name.split(".")[0] in OF_A_PROTOCOL}
        assert not wrong, file


def test_ssl_serves_only_to_build_a_context_and_to_know_its_certificate_error() -> None:
    used = {
        node.attr
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ssl"
    }
    assert used == OF_SSL
    assert not any(name.startswith("ssl.") for tree in trees().values() for name in imported(tree))


def test_no_private_name_of_a_library_is_used() -> None:
    libraries = {"aiohttp", "httpx", "yarl"}
    for file, tree in trees().items():
        assert not any(
            name.split(".")[0] in libraries and any(part.startswith("_") for part in name.split("."))
            for name in imported(tree)
        ), file
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert isinstance(node.value, ast.Name), (file, node.attr)
                assert node.value.id == "self", (file, node.attr)


def test_only_the_transport_knows_aiohttp() -> None:
    assert {file for file, tree in trees().items() if any(n.split(".")[0] == "aiohttp" for n in imported(tree))} == {
        "transport.py"
    }
    assert len((FOLDER / "transport.py").read_text().splitlines()) <= 200


def test_the_client_alone_imports_no_http_library() -> None:
    code = (
        "import sys, connector_mcp.upstream.client as client; loaded = {'httpx', 'aiohttp'} & set(sys.modules); "
        "client.warm_up(); print(sorted(loaded), sorted({'httpx', 'aiohttp'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[] ['aiohttp', 'httpx']\n"
