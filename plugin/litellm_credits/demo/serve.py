"""`make run`: the proxy kept up, with what a newcomer pastes first."""

import json
import time
from collections.abc import Mapping

from rich.console import Console

from litellm_credits.demo.client import Api
from litellm_credits.demo.progress import progress
from litellm_credits.errors import StartupRefused
from litellm_credits.settings import Settings
from litellm_credits.stack import Stack, StandIn, admin_key
from litellm_credits.stack.admin_key import VARIABLE, admin_key_file

MODEL, GROUP, ORGANIZATION = "gpt-3.5-turbo", "chat", "acme"

_PASSED_ON = ("OPENAI_API_KEY", "OPENAI_API_BASE", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "REQUESTS_CA_BUNDLE")
_LOOK_SECONDS = 0.5


def provider_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The provider keys found in `environ`, and how to reach the providers. Empty where there is none."""
    keys = {name: environ[name] for name in _PASSED_ON if environ.get(name)}
    if "OPENAI_API_KEY" in keys:
        keys.setdefault("OPENAI_API_BASE", "https://api.openai.com/v1")
    else:
        keys.pop("OPENAI_API_BASE", None)
    if not keys:
        return {}
    network = {name: environ[name] for name in _NETWORK if environ.get(name)}
    return keys | network | {"NO_PROXY": ",".join(filter(None, (environ.get("NO_PROXY"), "127.0.0.1,localhost")))}


def serve(chosen: Settings, environ: Mapping[str, str], *, host: str, port: int, workers: int) -> None:
    """Serve until Ctrl-C; calls in flight may end first.

    Raises:
        StartupRefused: the proxy does not start, or ended by itself.
    """
    console = Console(highlight=False)
    providers = provider_env(environ)
    data_dir = chosen.data_dir.expanduser().resolve()
    with progress(console) as waiting:
        stack = Stack(
            data_dir,
            database_url=chosen.database_url.get_secret_value() if chosen.database_url else None,
            admin_key=admin_key(data_dir, environ),
            host=host,
            port=port,
            workers=workers,
            provider=None if "OPENAI_API_KEY" in providers else StandIn(),
            env={name: value for name, value in environ.items() if _is_ours(name)} | providers,
            progress=waiting.on,
        )
        stack.start()
    try:
        _greet(console, stack, providers, own_key=bool(environ.get(VARIABLE)))
        while stack.proxy.exit_code is None:
            time.sleep(_LOOK_SECONDS)
        raise StartupRefused(
            problem=f"the proxy ended with exit code {stack.proxy.exit_code}. The end of {stack.log_path}:\n"
            f"{stack.proxy.last_words()}"
        )
    except KeyboardInterrupt:
        console.print("\nCalls in flight may end first; Ctrl-C again ends them.")
    finally:
        stack.stop()
    console.print("Stopped. The data are kept.")


def _is_ours(name: str) -> bool:
    return name.startswith("CREDITS_") or name == "SERVER_ROOT_PATH"


def _greet(console: Console, stack: Stack, providers: Mapping[str, str], *, own_key: bool) -> None:
    named = [name.removesuffix("_API_KEY").capitalize() for name in providers if name.endswith("_API_KEY")]
    stand_in = [] if "OPENAI_API_KEY" in providers else ["a local stand-in for OpenAI, which costs nothing"]
    database = "CREDITS_DATABASE_URL" if stack.is_external else f"embedded in {stack.data_dir}"
    key_place = f"${VARIABLE}" if own_key else str(admin_key_file(stack.data_dir))
    facts = {
        "proxy": stack.base_url,
        "providers": ", ".join(named + stand_in),
        "database": database,
        "admin key": key_place,
        "log": str(stack.log_path),
    }
    for name, value in facts.items():
        console.print(f"  {name:<10} {value}", markup=False, soft_wrap=True)
    console.print("\nPaste into another terminal, to create a team and a job, and to call:\n", style="bold")
    for line in paste_lines(stack, key_place=f'"{key_place}"' if own_key else f"\"$(cat '{key_place}')\""):
        console.print(line, markup=False, soft_wrap=True)
    console.print("\nCtrl-C stops all of it.")


def paste_lines(stack: Stack, *, key_place: str) -> list[str]:
    """Shell lines that work as they are, also when pasted again; those first that make what the database lacks.

    Args:
        key_place: a shell word for the admin key.
    """
    with Api(stack.base_url, stack.admin_key) as admin:
        missing = [(path, body) for path, name, body in _NEEDED if not admin.exists(f"{path}/{name}")]
    team = _json(
        organization_id=ORGANIZATION, team_id="team-'$RANDOM$RANDOM'", access_groups=[GROUP], credits_allocated=100
    )
    call = _json(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
    api = f"{stack.base_url}/api"
    return [
        f"ADMIN={key_place}",
        *(f"{_post(f'{api}{path}/create', 'ADMIN', _json(**body))}; echo" for path, body in missing),
        f"KEY=$({_post(f'{api}/teams/create', 'ADMIN', team)} {_pick('virtual_key')})",
        f"JOB=$({_post(f'{api}/jobs/create', 'KEY', _json(job_type='first'))} {_pick('job_id')})",
        f'{_post(f"{stack.base_url}/v1/chat/completions", "KEY", call)} -i -H "x-job-id: $JOB"; echo',
    ]


_NEEDED: tuple[tuple[str, str, dict[str, object]], ...] = (
    (
        "/models/aliases",
        MODEL,
        {
            "model_alias": MODEL,
            "provider": "openai",
            "actual_model": MODEL,
            "pricing_input": 0.0005,
            "pricing_output": 0.0015,
        },
    ),
    ("/model-access-groups", GROUP, {"group_name": GROUP, "model_aliases": [MODEL]}),
    ("/organizations", ORGANIZATION, {"organization_id": ORGANIZATION, "name": "Acme"}),
)


def _json(**fields: object) -> str:
    return json.dumps(fields)


def _post(url: str, key: str, body: str) -> str:
    return f"curl -s {url} -H \"Authorization: Bearer ${key}\" -H 'Content-Type: application/json' -d '{body}'"


def _pick(field: str) -> str:
    """The end of a pipe that lets one field of a JSON object through."""
    return f'| sed -E \'s/.*"{field}":"([^"]+)".*/\\1/\''
