"""The proxy's master key, made once and kept in the data folder."""

import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "LITELLM_MASTER_KEY"


def admin_key_file(data_dir: Path) -> Path:
    """Where the generated key is kept."""
    return data_dir / "admin-key"


def admin_key(data_dir: Path, environ: Mapping[str, str]) -> str:
    """The key in `environ`, else the one kept in `data_dir`, which is made when there is none (256 bits, mode 600)."""
    if given := environ.get(VARIABLE):
        return given
    path = admin_key_file(data_dir)
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        _write_once(path, f"sk-{secrets.token_urlsafe(32)}\n")
    return path.read_text().strip()


def _write_once(path: Path, text: str) -> None:
    """Write all of a file at once, unless another process was faster."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # readable by its owner only
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        os.unlink(draft)
