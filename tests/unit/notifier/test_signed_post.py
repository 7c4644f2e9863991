"""A post that its receiver can check, and what counts as an answer."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from emergency_stop.adapters.mail import MailServer
from emergency_stop.adapters.signed_post import SIGNATURE_HEADER, SignedPost, signature
from emergency_stop.ports import DeliveryError

PAGE = Path(__file__).parents[3] / "docs/notifications.md"
SECRET = b"0123456789abcdef"


@contextmanager
def endpoint(status: int) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    seen: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, dict(self.headers.items()), body))
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            seen.append((self.path, {}, b""))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Silence: the base class writes to stderr."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook?token=hidden", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [200, 201, 204])
def test_any_answer_2xx_is_success(status: int) -> None:
    with endpoint(status) as (url, seen):
        assert SignedPost(url, SECRET).send(b"{}", idempotency_key="k1", at_ms=5) == status
    ((path, headers, body),) = seen
    assert (path, body, headers["Idempotency-Key"]) == ("/hook?token=hidden", b"{}", "k1")
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 409, 500, 503])
def test_every_other_answer_is_none_and_no_redirect_is_followed(status: int) -> None:
    with endpoint(status) as (url, seen), pytest.raises(DeliveryError, match=f"answered {status}") as refused:
        SignedPost(url, SECRET).send(b"{}", idempotency_key="k1", at_ms=5)
    assert len(seen) == 1
    assert "hidden" not in str(refused.value), "what may be a secret in the address is not told"


def test_nobody_there_is_a_delivery_error_too() -> None:
    with pytest.raises(DeliveryError, match="did not answer"):
        SignedPost("http://127.0.0.1:1/", SECRET).send(b"{}", idempotency_key="k", at_ms=0)
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1:1 did not take the mail"):
        MailServer.parse("smtp://127.0.0.1:1").send(_mail())


def _mail() -> Any:
    from email.message import EmailMessage

    composed = EmailMessage()
    composed["From"], composed["To"] = "a@b.org", "c@d.org"
    return composed


def test_a_mail_servers_address_is_read_whole() -> None:
    server = MailServer.parse("smtps://ann%40example.org@mail.example.org:465", "pass")
    assert server == MailServer("smtps", "mail.example.org", 465, "ann@example.org", "pass")


def test_the_receivers_check_on_the_page_accepts_ours_and_nothing_else() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102  # the page's own example
    is_ours, now_ms = names["is_ours"], time.time_ns() // 1_000_000
    with endpoint(200) as (url, seen):
        SignedPost(url, SECRET).send(b'{"a":1}', idempotency_key="k", at_ms=now_ms)
    header = seen[0][1][SIGNATURE_HEADER]
    assert is_ours(SECRET, header, b'{"a":1}')
    assert not is_ours(SECRET, header, b'{"a":2}')
    assert not is_ours(b"another-secret-xx", header, b'{"a":1}')
    assert not is_ours(SECRET, signature(SECRET, now_ms - 600_000, b'{"a":1}'), b'{"a":1}'), "too old"
    assert not is_ours(SECRET, header.replace(f"t={now_ms}", f"t={now_ms + 1}"), b'{"a":1}'), "made younger"
