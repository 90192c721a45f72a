"""Ask a service something until it answers, prompt and answer on two workers, or time is up."""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request


def main() -> int:
    ends_at = time.monotonic() + float(os.environ["CHAT_TIMEOUT_SECONDS"])
    while True:
        said, why_not = ask(os.environ["CHAT_URL"], os.environ["CHAT_MODEL"])
        if said is not None:
            say(f"answered: {said}")
            return 0
        if time.monotonic() >= ends_at:
            say(f"no answer: {why_not}")
            return 1
        say(f"not yet: {why_not}")
        time.sleep(2)


def ask(url: str, model: str) -> tuple[str | None, str]:
    """Return what was answered, or None and why not."""
    chat = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello?"}]}
    body = json.dumps(chat).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            mode = answer.headers.get("x-twofold-mode")
            said = json.load(answer)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        return None, f"{error.code} {error.read(500).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return None, str(error)
    if mode != "disaggregated":
        return None, f"answered in mode {mode}"
    return said, ""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
