"""Install a hashed lock file and this checkout into a virtual environment, with a line of progress. Standard library only.

python scripts/install.py .venv requirements.lock
"""

import subprocess
import sys
import time
import venv
from pathlib import Path

OLDEST = (3, 11)
LOCKED = ("--no-deps", "--require-hashes", "--only-binary", ":all:")
"""A lock names everything. Left to look for more, older pips stumble over an extra whose newest version is not the locked one."""


def main() -> None:
    """Create the environment when it is missing, install what the lock names, then the checkout itself."""
    if sys.version_info < OLDEST:
        sys.exit(f"litellm-credits needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is {sys.version.split()[0]}.")
    folder, lock = Path(sys.argv[1]), Path(sys.argv[2])
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"creating {folder}")
        venv.create(folder, with_pip=True)
    total = sum(1 for line in lock.read_text().splitlines() if "==" in line)
    pip(python, ["install", *LOCKED, "-r", str(lock)], f"installing {lock}", total)
    pip(python, ["install", "--no-deps", "-e", "."], "installing litellm-credits", 1)


def pip(python: Path, arguments: list[str], what: str, total: int) -> None:
    """Run pip, counting the packages it goes through; print everything it said when it fails."""
    started, seen, said = time.monotonic(), 0, []
    process = subprocess.Popen(
        [python, "-m", "pip", *arguments, "--disable-pip-version-check"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith(("Collecting ", "Requirement already satisfied")):
            seen += 1
            say(f"{what}: {min(seen, total)}/{total}", end="\r")
        elif line.startswith("Installing collected"):
            say(f"{what}: unpacking          ", end="\r")
    if process.wait():
        sys.exit("\n" + "".join(said[-40:]) + f"\n{what} failed; pip's last words are above.")
    say(f"{what}: done in {time.monotonic() - started:.0f} s      ")


def say(text: str, end: str = "\n") -> None:
    """One line of progress; on a terminal it is overwritten by the next."""
    if end == "\n" or sys.stdout.isatty():
        print(f"  {text}", end=end, flush=True)


main()
