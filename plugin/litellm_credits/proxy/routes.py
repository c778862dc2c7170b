"""What a virtual key may do with each of LiteLLM's routes: priced, free or refused. What is not named here is refused.

`ENDPOINTS` names exact routes, spelled as LiteLLM's application spells them; `REFUSED` names families by the beginning of
their paths. tests/proxy/test_route_table.py walks the installed application and fails on a route that neither names, and
on an entry that names no route; docs/endpoints.md is written from this table by scripts/docs.py.

Paths are matched as Starlette decodes and routes them: by case, without mending slashes, dots or escapes. A form of a path
that is not written here is unknown, and so refused. Our own routes under /api are not LiteLLM's and not named here: they
never ask LiteLLM who calls. Routes on which LiteLLM asks for no key at all (health probes, the files of its user interface,
the discovery and log-in pages of OAuth) answer anyone; a virtual key opens nothing on them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.routing import compile_path


class Access(StrEnum):
    """What a route is to a virtual key."""

    PRICED = "priced"
    FREE = "free"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A class of routes that are open to virtual keys, and metered in the same way."""

    title: str
    access: Access
    charged: str
    """What is charged, and by which unit."""
    paths: tuple[str, ...]
    methods: tuple[str, ...] = ("POST",)


@dataclass(frozen=True, slots=True)
class Family:
    """Routes that are refused to virtual keys, for one reason.

    A prefix covers its own path and all that lies under it, for every method and for websockets, also behind a version:
    "/batches" covers /batches, /v1/batches and /v1/batches/{batch_id}/cancel, but not /batches-of-another-kind. The prefix
    "/" covers itself alone.
    """

    title: str
    reason: str
    prefixes: tuple[str, ...]


ENDPOINTS: Mapping[str, Endpoint] = {
    "chat": Endpoint(
        "Chat completions",
        Access.PRICED,
        "input and output tokens",
        (
            "/v1/chat/completions",
            "/chat/completions",
            "/engines/{model:path}/chat/completions",
            "/openai/deployments/{model:path}/chat/completions",
        ),
    ),
    "completions": Endpoint(
        "Text completions",
        Access.PRICED,
        "input and output tokens",
        (
            "/v1/completions",
            "/completions",
            "/engines/{model:path}/completions",
            "/openai/deployments/{model:path}/completions",
        ),
    ),
    "embeddings": Endpoint(
        "Embeddings",
        Access.PRICED,
        "input tokens",
        (
            "/v1/embeddings",
            "/embeddings",
            "/engines/{model:path}/embeddings",
            "/openai/deployments/{model:path}/embeddings",
        ),
    ),
    "responses": Endpoint(
        "Responses",
        Access.PRICED,
        "input and output tokens",
        ("/v1/responses", "/responses", "/openai/v1/responses"),
    ),
    "messages": Endpoint("Anthropic messages", Access.PRICED, "input and output tokens", ("/v1/messages",)),
    "generate_content": Endpoint(
        "Gemini generateContent",
        Access.PRICED,
        "input and output tokens",
        (
            "/v1beta/models/{model_name:path}:generateContent",
            "/models/{model_name:path}:generateContent",
            "/v1beta/models/{model_name:path}:streamGenerateContent",
            "/models/{model_name:path}:streamGenerateContent",
        ),
    ),
    "image_generation": Endpoint(
        "Image generation",
        Access.PRICED,
        "images, or tokens where the model is priced by them",
        ("/v1/images/generations", "/images/generations", "/openai/deployments/{model:path}/images/generations"),
    ),
    "image_edit": Endpoint(
        "Image edits",
        Access.PRICED,
        "images, or tokens where the model is priced by them",
        ("/v1/images/edits", "/images/edits", "/openai/deployments/{model:path}/images/edits"),
    ),
    "speech": Endpoint("Speech", Access.PRICED, "characters of input", ("/v1/audio/speech", "/audio/speech")),
    "transcription": Endpoint(
        "Transcriptions",
        Access.PRICED,
        "seconds of audio, or tokens where the model is priced by them",
        ("/v1/audio/transcriptions", "/audio/transcriptions"),
    ),
    "rerank": Endpoint(
        "Rerank",
        Access.PRICED,
        "queries, or tokens where the model is priced by them",
        ("/v1/rerank", "/v2/rerank", "/rerank"),
    ),
    "moderation": Endpoint(
        "Moderations", Access.PRICED, "requests; free at a price of 0", ("/v1/moderations", "/moderations")
    ),
    "ocr": Endpoint("OCR", Access.PRICED, "pages", ("/v1/ocr", "/ocr")),
    "models": Endpoint(
        "Model listing",
        Access.FREE,
        "nothing; lists what the key may call",
        ("/v1/models", "/models", "/v1/models/{model_id}", "/models/{model_id}"),
        ("GET",),
    ),
    "model_info": Endpoint(
        "Model information",
        Access.FREE,
        "nothing; tells of what the key may call",
        ("/v1/model/info", "/model/info"),
        ("GET",),
    ),
    "count_tokens": Endpoint(
        "Token counting",
        Access.FREE,
        "nothing",
        (
            "/v1/messages/count_tokens",
            "/v1beta/models/{model_name:path}:countTokens",
            "/models/{model_name:path}:countTokens",
        ),
    ),
    "health": Endpoint(
        "Health probes",
        Access.FREE,
        "nothing; no key is needed",
        ("/health/liveliness", "/health/liveness", "/health/readiness"),
        ("GET", "OPTIONS"),
    ),
}

REFUSED: tuple[Family, ...] = (
    Family(
        "Stored responses",
        "whose a stored response is, is not checked here, and compaction is not metered",
        ("/responses", "/openai/v1/responses"),
    ),
    Family(
        "Realtime and websockets",
        "the cost of a session has no bound before it ends",
        ("/realtime", "/openai/v1/realtime", "/vertex_ai/live", "/deepgram"),
    ),
    Family(
        "Batches",
        "the cost of a batch is known only long after it was accepted",
        ("/batches", "/{provider}/v1/batches"),
    ),
    Family(
        "Files, fine-tuning, vector stores and containers",
        "they lie in the operator's account at the provider, where teams are not kept apart",
        (
            "/containers",
            "/files",
            "/fine_tuning",
            "/indexes",
            "/rag",
            "/vector_store",
            "/vector_stores",
            "/{provider}/v1/files",
        ),
    ),
    Family(
        "Assistants, agents and evaluations",
        "one request may start any number of model calls",
        ("/a2a", "/agent", "/agents", "/assistants", "/evals", "/interactions", "/threads"),
    ),
    Family("Videos", "a video's cost is known only when it was made, long after the request", ("/videos",)),
    Family(
        "Search", "search tools are not models: no access group holds them, and no price", ("/search", "/search_tools")
    ),
    Family(
        "Decisions",
        "an alias has no price for a decision",
        ("/bespoke", "/decisions", "/laya", "/systemone"),
    ),
    Family(
        "Other ways to the chat models",
        "they are made for one client or for LiteLLM's own queue; use /v1/chat/completions or /v1/messages",
        ("/claude_code_gateway", "/cursor", "/queue"),
    ),
    Family(
        "Provider pass-through",
        "the request goes to the provider as it is, with the operator's credentials and without a price",
        (
            "/anthropic",
            "/assemblyai",
            "/azure",
            "/azure_ai",
            "/azure_speech",
            "/bedrock",
            "/cohere",
            "/comprehendmedical",
            "/eu.assemblyai",
            "/fal_ai",
            "/gemini",
            "/gigachat",
            "/langfuse",
            "/milvus",
            "/mistral",
            "/nvidia_nim",
            "/openai",
            "/openai_passthrough",
            "/openrouter",
            "/tinyfish",
            "/transcribe",
            "/typesafe",
            "/vertex-ai",
            "/vertex_ai",
            "/vllm",
            "/watsonx",
        ),
    ),
    Family(
        "MCP, its OAuth and other discovery",
        "tools are run with the operator's credentials, and have no price",
        (
            "/.well-known",
            "/authorize",
            "/callback",
            "/introspect",
            "/mcp",
            "/mcp-rest",
            "/oauth",
            "/register",
            "/revoke",
            "/token",
            "/tool",
            "/toolset",
            "/{mcp_server_name}/authorize",
            "/{mcp_server_name}/mcp",
            "/{mcp_server_name}/register",
            "/{mcp_server_name}/token",
        ),
    ),
    Family(
        "Guardrails, policies, prompts, skills, workflows and memory",
        "they are the operator's to set up, and their use is not metered",
        (
            "/apply_guardrail",
            "/claude-code",
            "/guardrails",
            "/memory",
            "/policies",
            "/policy",
            "/prompts",
            "/skills",
            "/workflows",
        ),
    ),
    Family(
        "Management",
        "keys, teams, users, models and access are the operator's to manage",
        (
            "/access_group",
            "/adaptive_router",
            "/auto_router",
            "/budget",
            "/credentials",
            "/customer",
            "/end_user",
            "/fallback",
            "/invitation",
            "/jwt",
            "/key",
            "/management",
            "/model",
            "/model-insights",
            "/model_group",
            "/model_hub",
            "/organization",
            "/project",
            "/router",
            "/scim",
            "/tag",
            "/team",
            "/unified_access_group",
            "/user",
        ),
    ),
    Family(
        "Spend and audit",
        "LiteLLM's own records tell of other teams; a team's own are under /api",
        (
            "/audit",
            "/cloudzero",
            "/compliance",
            "/cost",
            "/cost_optimization",
            "/gateway",
            "/global",
            "/provider",
            "/spend",
            "/usage",
            "/vantage",
        ),
    ),
    Family(
        "Configuration",
        "the proxy's settings are the operator's",
        (
            "/active",
            "/add",
            "/alerting",
            "/api/plugins",
            "/cache",
            "/callbacks",
            "/config",
            "/config_overrides",
            "/coordination_redis",
            "/delete",
            "/email",
            "/get",
            "/lazy",
            "/liteadmin",
            "/moyai",
            "/plugin-proxy",
            "/reload",
            "/routes",
            "/rust_control_plane",
            "/schedule",
            "/settings",
            "/update",
            "/upload",
        ),
    ),
    Family(
        "Health, traces, metrics and debugging",
        "they tell of the operator's deployments and of other teams' calls, and some make calls",
        (
            "/api/event_logging",
            "/debug",
            "/health",
            "/lens",
            "/logs",
            "/memory-usage-in-mem-cache",
            "/memory-usage-in-mem-cache-items",
            "/metrics",
            "/otel-spans",
            "/test",
            "/traces",
            "/utils",
        ),
    ),
    Family(
        "User interface, log-in and public pages",
        "they are pages for a browser, not for a key",
        (
            "/",
            "/_next",
            "/docs",
            "/get_favicon",
            "/get_image",
            "/get_logo_url",
            "/litellm",
            "/litellm-asset-prefix",
            "/login",
            "/onboarding",
            "/openapi.json",
            "/public",
            "/redoc",
            "/robots.txt",
            "/session",
            "/sso",
            "/swagger",
            "/ui",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table."""

    path: str
    """As the application spells it; of a refused route, the beginning of all the paths that it covers."""
    access: Access
    methods: frozenset[str] = frozenset()
    """Empty: all, and websockets."""
    endpoint: str = ""
    """The endpoint class of a priced or free route: a key of `ENDPOINTS`, for routes of this table."""
    reason: str = ""
    """Why a refused route is refused."""
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        exact = compile_path(self.path)[0].pattern.removeprefix("^").removesuffix("$")
        if self.access is Access.REFUSED and self.path != "/":
            exact = rf"(?:/v\d+(?:beta)?)?{exact}(?:/(?s:.*))?"
        object.__setattr__(self, "pattern", re.compile(exact))

    def takes(self, method: str) -> bool:
        """Whether this line speaks of requests with this method."""
        return not self.methods or method in self.methods

    @property
    def is_exact(self) -> bool:
        """Whether it names one path only."""
        return self.access is not Access.REFUSED and "{" not in self.path


@dataclass(frozen=True, slots=True)
class Match:
    """The line that decides about a request, and what its path says."""

    route: Route
    params: Mapping[str, str]

    @property
    def model(self) -> str | None:
        """The model that stands in the URL, if one does."""
        return next((self.params[name] for name in ("model", "model_name", "model_id") if name in self.params), None)


class Table:
    """All lines, ready to be asked. The first line that names a request decides, as in LiteLLM's application.

    Args:
        extra: routes that the operator opens besides, in the place of the refused families that cover them.

    Raises:
        ValueError: when an extra route is open already.
    """

    def __init__(self, extra: Iterable[Route] = ()) -> None:
        lines = [
            Route(path, endpoint.access, methods=frozenset(endpoint.methods), endpoint=name)
            for name, endpoint in ENDPOINTS.items()
            for path in endpoint.paths
        ]
        for route in extra:
            if any(line.pattern.fullmatch(route.path) for line in lines):
                raise ValueError(f"{route.path} is open to virtual keys already")
            lines.append(route)
        lines += [Route(path, Access.REFUSED, reason=family.reason) for family in REFUSED for path in family.prefixes]
        self.routes = tuple(lines)
        self._exact = {
            (method, line.path): Match(line, {}) for line in lines if line.is_exact for method in line.methods
        }
        self._others = [line for line in lines if not line.is_exact]

    def find(self, method: str, path: str) -> Match | None:
        """The line that decides about a request; None: none names it, and it is refused.

        Args:
            method: in capitals, as in the ASGI scope; "WEBSOCKET" for a websocket.
            path: decoded, as the application routes it: the scope's `path` without its `root_path`.
        """
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact
        for line in self._others:
            if line.takes(method) and (match := line.pattern.fullmatch(path)):
                return Match(line, match.groupdict())
        return None


TABLE = Table()
"""The table without any route that an operator opened."""
