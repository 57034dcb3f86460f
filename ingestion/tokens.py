"""Where an OAUTHBEARER token comes from: a token endpoint, a file that something else renews, or a function of the user's.

A source is asked again when its token is about to end. What it holds is never part of its repr or of an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from kafka.net.sasl.oauth import AbstractTokenProvider

from ingestion.errors import BrokerUnavailable, InputDataError

_UNKNOWN_LIFE = 300.0
_TIMEOUT = 10.0
_MAX_BYTES = 1 << 20


class TokenSource(AbstractTokenProvider):  # type: ignore[misc]
    """Base of the sources: keeps a token for four fifths of its life. `fetch` gives token and life in seconds, None if unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._token, self._renew, self._ends = "", 0.0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        """For another process: everything but the lock."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The same source with a lock of its own."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def fetch(self) -> tuple[str, float | None]:
        """A fresh token. Raises BrokerUnavailable."""
        raise NotImplementedError

    def token(self) -> str:
        """The token to send now. Raises BrokerUnavailable."""
        with self._lock:
            now = time.time()
            if now >= self._renew:
                token, life = self.fetch()
                token = token.strip()
                if not token or not token.isascii() or not token.isprintable():
                    raise BrokerUnavailable(f"{self!r} gave no token; expected one line of printable ASCII")
                life = _life(token) if life is None else life
                self._token, self._renew, self._ends = token, now + 0.8 * life, now + life
            return self._token

    def expires_at(self) -> float:
        """When the last token ends, in s since 1970."""
        return self._ends


class TokenFile(TokenSource):
    """A file that a sidecar or an operator keeps fresh."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __repr__(self) -> str:
        """The file, never what it holds."""
        return f"token file {self._path}"

    def fetch(self) -> tuple[str, float | None]:
        """See `TokenSource.fetch`."""
        try:
            return self._path.read_text(encoding="utf-8"), None
        except (OSError, UnicodeDecodeError) as error:
            raise BrokerUnavailable(
                f"{self!r}: cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None


class TokenFunction(TokenSource):
    """A user's `module:function`, called without arguments; it returns a token, or a token and its life in seconds."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._load()

    def _load(self) -> Callable[[], Any]:
        module, _, attribute = self._name.partition(":")
        try:
            found: Callable[[], Any] = getattr(import_module(module), attribute)
            return found
        except Exception as error:  # the user's module may fail in any way while it is imported
            raise InputDataError(
                f"token_function = {self._name!r}: {type(error).__name__}; expected an importable module:function"
            ) from error

    def __repr__(self) -> str:
        """The function's name."""
        return f"token function {self._name}"

    def fetch(self) -> tuple[str, float | None]:
        """See `TokenSource.fetch`."""
        try:
            found = self._load()()
            token, life = found if isinstance(found, tuple) else (found, None)
            return str(token or ""), None if life is None else float(life)
        except Exception as error:  # what it raises may hold a secret: only its kind is told
            raise BrokerUnavailable(f"{self!r} raised {type(error).__name__}") from None


class TokenEndpoint(TokenSource):
    """Client credentials (RFC 6749, section 4.4) at a token endpoint."""

    def __init__(
        self, url: str, client_id: str, secret: str, scope: str | None = None, ca_file: Path | None = None
    ) -> None:
        super().__init__()
        self._url, self._client_id, self._secret, self._scope = url, client_id, secret, scope
        self._ca_file = ca_file

    def __repr__(self) -> str:
        """Address and client, never the secret."""
        return f"token endpoint {self._url} for client {self._client_id!r}"

    def fetch(self) -> tuple[str, float | None]:
        """See `TokenSource.fetch`."""
        form = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {})}
        pair = ":".join(urllib.parse.quote(part, safe="") for part in (self._client_id, self._secret))
        request = urllib.request.Request(
            self._url,
            urllib.parse.urlencode(form).encode(),
            {
                "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
                "Accept": "application/json",
            },
        )
        try:
            context = (
                ssl.create_default_context(cafile=self._ca_file) if self._url.startswith("https") else None
            )
            with urllib.request.urlopen(request, timeout=_TIMEOUT, context=context) as answer:
                body = json.loads(answer.read(_MAX_BYTES))
            life = body.get("expires_in")
            return str(body["access_token"]), None if life is None else float(life)
        except urllib.error.HTTPError as error:
            raise BrokerUnavailable(
                f"{self!r}: status {error.code}; check client id, secret and scope"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = getattr(error, "reason", None) or type(error).__name__
            raise BrokerUnavailable(f"{self!r}: {why}; expected a JSON object with access_token") from None


def _life(token: str) -> float:
    """Seconds until the `exp` of a JSON web token; five minutes where there is none."""
    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return max(1.0, float(claims["exp"]) - time.time())
    except (IndexError, ValueError, KeyError, TypeError, binascii.Error):
        return _UNKNOWN_LIFE
