"""Before a run that logs to Weights & Biases online: is there a key, and does the server take it?

Without this check the first training would end after minutes of waiting for a network. A connection
that is lost later ends nothing (``tracking.py``).
"""

from __future__ import annotations

import threading
from typing import Any

from clclip.core.errors import InputError

LIMIT_SECONDS = 8.0
OFFLINE = "wandb: offline (later `wandb sync`)"


def check_online() -> None:
    """Refuse a run that could log nothing, within seconds.

    Raises:
        InputError: if there is no key, the server refuses it, or it cannot be reached.
    """
    server, key = _server_and_key()
    answer: list[Any] = []
    # a thread, because looking up a name has no time limit of its own
    asking = threading.Thread(target=lambda: answer.append(_ask(server, key)), daemon=True)
    asking.start()
    asking.join(LIMIT_SECONDS)
    problem = answer[0] if answer else f"no answer within {LIMIT_SECONDS:g} s"
    if problem == "refused":
        what = f"{server} refuses the key of Weights & Biases"
        expected = f"a valid key (`wandb login --relogin`), or {OFFLINE}"
        raise InputError(what, "wandb: online", expected)
    if problem:
        what = f"{server} of Weights & Biases cannot be reached ({problem})"
        raise InputError(what, "wandb: online", f"a network, or {OFFLINE}")


def _server_and_key() -> tuple[str, str | None]:
    """Return the server, and the key of the environment or of netrc.

    Returns:
        the server's address, and the key; None where another credential is used.

    Raises:
        InputError: if there is neither, or it cannot be a key.
    """
    import wandb
    from wandb.errors import Error
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    expected = f"`wandb login` or WANDB_API_KEY, or {OFFLINE}"
    try:
        # as wandb.setup(), which would also start wandb's service, in the home folder
        settings = wandb_setup._setup(wandb.Settings(silent=True), start_service=False).settings
        server = str(settings.base_url).rstrip("/")
        session = wbauth.authenticate_session(host=server, source="clclip", prompt=False)
    except (Error, ValueError, OSError, RuntimeError) as error:  # RuntimeError: no home
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        what = f"no usable key of Weights & Biases ({reason})"
        raise InputError(what, "wandb: online", expected) from None
    if session is None:
        raise InputError("no key of Weights & Biases", "wandb: online", expected)
    return server, getattr(session, "api_key", None)


def _ask(server: str, key: str | None) -> str | None:
    """Return what is wrong with server or key: "refused", a reason in words, or None."""
    import requests

    try:
        answer = requests.post(
            f"{server}/graphql",
            json={"query": "query { viewer { id } }"},
            auth=("api", key) if key else None,
            timeout=(4, 6),
        )
        if answer.status_code in (401, 403):
            return "refused"
        if answer.status_code != 200:
            return f"it answers {answer.status_code}"
        known = answer.json()
    except requests.ConnectionError:
        return "no connection"
    except requests.Timeout:
        return "no answer in time"
    except (requests.RequestException, ValueError):
        return "something else answers"
    data = known.get("data") if isinstance(known, dict) else None
    return "refused" if key and isinstance(data, dict) and data.get("viewer", 1) is None else None
