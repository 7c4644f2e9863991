"""POST of a JSON body that its receiver can check: who sent it, when, and whether it came before.

``X-Estop-Signature: t=<ms>,v1=<hex>`` is HMAC-SHA256, with the shared secret, of ``<ms>.<body>``: a receiver that
bounds the age of ``t`` cannot be sent an old body again. ``Idempotency-Key`` is the same whenever the same thing is
sent again.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

from emergency_stop.ports import DeliveryError

TIMEOUT_S: Final = 10.0
SIGNATURE_HEADER: Final = "X-Estop-Signature"
KEY_HEADER: Final = "Idempotency-Key"
_OK_MIN: Final = 200
_OK_MAX: Final = 299


def signature(secret: bytes, at_ms: int, body: bytes) -> str:
    """The value of ``X-Estop-Signature``. Receivers compute it too, and compare in constant time."""
    digest = hmac.new(secret, f"{at_ms}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_ms},v1={digest}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET of something else, and its 200 would pass for success."""

    def redirect_request(self, *_: Any) -> None:
        return None


class SignedPost:
    """Thread-safe. ``send`` blocks for ``timeout_s`` per step of the connection."""

    def __init__(self, url: str, secret: bytes, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)
        #: The address without user, path and query: these may carry secrets, so texts do without them.
        self.place = f"{urlsplit(url).scheme}://{urlsplit(url).hostname}"

    def send(self, body: bytes, *, idempotency_key: str, at_ms: int) -> int:
        """The status of an answer 2xx. Raises ``DeliveryError`` for every other end."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "emergency-stop",
            KEY_HEADER: idempotency_key,
            SIGNATURE_HEADER: signature(self._secret, at_ms, body),
        }
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310  # settings allow http(s)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            raise DeliveryError(f"{self.place} answered {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(f"{self.place} did not answer: {str(error) or type(error).__name__}") from error
        if not _OK_MIN <= status <= _OK_MAX:
            raise DeliveryError(f"{self.place} answered {status}")
        return status
