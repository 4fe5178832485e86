"""`connector-mcp demo`: the whole session, as a process."""

from connector_mcp.cli.commands.demo import BUCKET_SECRET


def test_the_session_completes_without_a_terminal_and_ignores_the_credentials_of_the_machine(spawn):
    ended = spawn("demo", VECTORIZE_API_KEY="real-key", CONNECTOR_MCP_READ_ONLY="true")
    assert ended.status == 0, ended.err
    assert "vectorize_create_source_connector" in ended.out
    assert "the client answers: declines" in ended.out
    assert 'the client answers: types "Quarterly reports"' in ended.out
    assert '"clientSecret": "[redacted]"' in ended.out
    assert ended.out.index("refused") < ended.out.index("not_found") < ended.out.index("Done.")
    assert "\x1b" not in ended.out
    assert BUCKET_SECRET not in ended.out + ended.err


def test_in_a_terminal_it_has_colors(in_terminal):
    ended = in_terminal("demo")
    assert ended.status == 0
    assert "\x1b[" in ended.out
