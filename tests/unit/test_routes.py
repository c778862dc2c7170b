"""How a request finds its line of the route table, and that no other form of a path does."""

import pytest

from litellm_credits.proxy.routes import ENDPOINTS, REFUSED, TABLE, Access, Route, Table


def _outcome(method: str, path: str) -> tuple[str, str | None] | None:
    match = TABLE.find(method, path)
    return None if match is None else (match.route.endpoint or match.route.access, match.model)


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "model"),
    [
        ("POST", "/v1/chat/completions", "chat", None),
        ("POST", "/engines/gpt-4o/chat/completions", "chat", "gpt-4o"),
        ("POST", "/engines/azure/gpt-4o/completions", "completions", "azure/gpt-4o"),
        ("POST", "/engines/chat/completions", "completions", "chat"),
        ("POST", "/openai/deployments/gpt-4o/chat/completions", "chat", "gpt-4o"),
        ("POST", "/openai/deployments/org/dall e/images/edits", "image_edit", "org/dall e"),
        ("POST", "/v1/responses", "responses", None),
        ("POST", "/v1/messages", "messages", None),
        ("POST", "/v1/messages/count_tokens", "count_tokens", None),
        ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", "generate_content", "gemini-2.5-pro"),
        ("POST", "/models/a/b:streamGenerateContent", "generate_content", "a/b"),
        ("POST", "/models/a:generateContent:countTokens", "count_tokens", "a:generateContent"),
        ("GET", "/models/a:generateContent", "models", "a:generateContent"),
        ("GET", "/v1/models/mcp", "models", "mcp"),
        ("GET", "/health/readiness", "health", None),
    ],
)
def test_an_open_route_is_found_with_the_model_of_its_url(
    method: str, path: str, endpoint: str, model: str | None
) -> None:
    assert _outcome(method, path) == (endpoint, model)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/key/generate"),
        ("GET", "/v2/key/info"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/responses/compact"),
        ("WEBSOCKET", "/v1/responses"),
        ("WEBSOCKET", "/openai/v1/realtime"),
        ("POST", "/anthropic/v1/messages"),
        ("POST", "/openai/v1/chat/completions"),
        ("POST", "/openai/deployments/gpt-4o/audio/speech"),
        ("POST", "/openai/deployments/gpt-4o\n/chat/completions"),
        ("POST", "/vertex_ai/v1/models/x:generateContent"),
        ("POST", "/azure/v1/batches"),
        ("POST", "/batches/a/b/cancel"),
        ("PUT", "/some-server/mcp"),
        ("GET", "/api/mcp"),
        ("GET", "/api/v1/files"),
        ("GET", "/api/plugins"),
        ("GET", "/v1/mcp/tools"),
        ("GET", "/v2/model/info"),
        ("GET", "/health"),
        ("OPTIONS", "/ui/"),
        ("GET", "/"),
    ],
)
def test_a_route_of_a_refused_family_is_refused_with_its_reason(method: str, path: str) -> None:
    match = TABLE.find(method, path)

    assert match is not None
    assert match.route.access is Access.REFUSED
    assert match.route.reason in {family.reason for family in REFUSED}


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions\n",
        "/v1/chat/completions\x00",
        "/v1/chat/completions ",
        "/v1/chat/completions;x",
        "/v1/chat/completions?stream=1",
        "/v1/chat%2Fcompletions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/V1/chat/completions",
        "/v1/Chat/Completions",
        "/v2/chat/completions",
        "/v1/v1/chat/completions",
        "/prefix/v1/chat/completions",
        "v1/chat/completions",
        "/v1/chat/completions/v1/models",
        "/v1/engines/gpt-4o/chat/completions",
        "/engines/gpt-4o\n/chat/completions",
        "/engines/gpt-4o/chat/completions/",
        "/models/a:generatecontent",
        "/v1/models/a:generateContent",
        "/v1/chat/completion\N{FULLWIDTH LATIN SMALL LETTER S}",
        "/audio/translations",
        "/keys",
        "/batches-of-another-kind",
        "http://proxy/v1/chat/completions",
        "*",
        "",
    ],
)
def test_another_form_of_a_path_is_unknown(path: str) -> None:
    assert TABLE.find("POST", path) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "TRACE", "post", "POST ", "WEBSOCKET", ""])
def test_another_method_is_unknown(method: str) -> None:
    assert TABLE.find(method, "/v1/chat/completions") is None
    assert TABLE.find(method, "/engines/gpt-4o/embeddings") is None


def test_every_line_is_written_once() -> None:
    lines = [(route.path, method) for route in TABLE.routes for method in route.methods or ("any",)]

    assert len(lines) == len(set(lines))
    assert {route.endpoint for route in TABLE.routes if route.access is not Access.REFUSED} == set(ENDPOINTS)


def test_an_operator_can_open_a_route_of_a_refused_family() -> None:
    opened = Route("/openai/{endpoint:path}", Access.PRICED, methods=frozenset({"POST"}), endpoint="pass_through")
    tool = Route("/tools/weather", Access.PRICED, methods=frozenset({"GET"}), endpoint="pass_through")
    table = Table([opened, tool])

    found = table.find("POST", "/openai/v1/images/variations")
    assert found is not None
    assert found.route is opened
    assert found.params == {"endpoint": "v1/images/variations"}
    exact = table.find("GET", "/tools/weather")
    assert exact is not None
    assert exact.route is tool
    for method, path, endpoint in [
        ("POST", "/openai/deployments/gpt-4o/embeddings", "embeddings"),
        ("POST", "/openai/v1/responses", "responses"),
        ("GET", "/openai/v1/images/variations", ""),
    ]:
        kept = table.find(method, path)
        assert kept is not None
        assert kept.route.endpoint == endpoint


@pytest.mark.parametrize("path", ["/v1/embeddings", "/models/my-tool", "/models/{tool:path}", "/engines/x/completions"])
def test_what_is_open_cannot_be_opened_again(path: str) -> None:
    with pytest.raises(ValueError, match="is open to virtual keys already"):
        Table([Route(path, Access.FREE, methods=frozenset({"POST"}), endpoint="free-for-all")])
