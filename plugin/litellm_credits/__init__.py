"""Prepaid credits for the LiteLLM proxy, inside the LiteLLM proxy.

A call's life reads top to bottom in `proxy` (auth, admit, dispatch, settle) and `ledger` (hold, settle, void).
Only `proxy` imports litellm. See DESIGN in docs/ for the promises and README.md for use.
"""

__version__ = "0.1.0"
