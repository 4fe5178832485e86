"""Signatures of webhooks and callbacks: what the server signs, what it accepts, and which secrets it takes."""

from __future__ import annotations

import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from connector_mcp.engine.approval.approval_webhook import TOLERANCE, InvalidSignature, WebhookKey
from connector_mcp.errors import Misconfigured

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "b3RoZXIg" * 4
KEY = WebhookKey.parse(SECRET, "SETTING")
BODY = '{"test": 2432232314}'


def signed(*, at: float | None = None, body: str = BODY) -> dict[str, str]:
    return KEY.headers("msg_1", time.time() if at is None else at, body)


def verify(headers: dict[str, str], body: bytes = BODY.encode(), key: WebhookKey = KEY) -> str:
    return key.verify(headers.items(), body)


def test_the_signature_is_that_of_the_specification() -> None:
    assert KEY.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_receiver_with_the_same_secret_accepts_our_signature_and_another_does_not() -> None:
    assert Webhook(SECRET).verify(BODY, signed()) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, signed())


def test_one_valid_signature_among_others_is_enough() -> None:
    headers = signed()
    others = f"v1,AAAA v2,{'x' * 20} v1a,zzzz nonsense v1,!! v1,{'A' * 43}= {headers['webhook-signature']}"
    assert verify(headers | {"webhook-signature": others}) == "msg_1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-id", "msg_2"), ("webhook-id", ""), ("webhook-id", "a.b"), ("webhook-id", "m" * 129),
        ("webhook-timestamp", "1"), ("webhook-timestamp", "1e9"), ("webhook-timestamp", "+{at}"),
        ("webhook-timestamp", "{at}.5"), ("webhook-timestamp", "nan"), ("webhook-timestamp", " "),
        ("webhook-timestamp", "9" * 400), ("webhook-timestamp", "9" * 12), ("webhook-signature", ""),
        ("webhook-signature", "v1,"), ("webhook-signature", "v1,é"),
        ("webhook-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ],
)  # fmt: skip
def test_an_altered_or_malformed_header_is_refused(name: str, value: str) -> None:
    at = int(time.time())
    with pytest.raises(InvalidSignature):
        verify(signed(at=at) | {name: value.format(at=at)})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_required_once(name: str) -> None:
    headers = list(signed().items())
    for wrong in ([pair for pair in headers if pair[0] != name], [*headers, (name.title(), dict(headers)[name])]):
        with pytest.raises(InvalidSignature, match="each once"):
            KEY.verify(wrong, BODY.encode())


@pytest.mark.parametrize(
    ("body", "secret"), [(BODY.encode() + b" ", SECRET), (b"", SECRET), (b"\xff", SECRET), (BODY.encode(), OTHER)]
)
def test_an_altered_body_or_another_secret_is_refused(body: bytes, secret: str) -> None:
    with pytest.raises(InvalidSignature):
        verify(signed(), body, WebhookKey.parse(secret, "SETTING"))


def test_parts_that_are_moved_over_the_separator_are_refused() -> None:
    now = int(time.time())
    headers = signed(at=now, body=f"{now}.{BODY}")
    with pytest.raises(InvalidSignature):
        verify(headers | {"webhook-id": f"msg_1.{now}"})


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_message_is_accepted_within_five_minutes_of_its_timestamp(sign: int) -> None:
    assert verify(signed(at=time.time() + sign * (TOLERANCE - 10))) == "msg_1"
    with pytest.raises(InvalidSignature, match="timestamp too"):
        verify(signed(at=time.time() + sign * (TOLERANCE + 10)))


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", SECRET.removeprefix("whsec_"), "whsec_" + "AAAA" * 22]
)
def test_an_invalid_secret_is_refused_by_the_name_of_its_setting_and_not_shown(secret: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        WebhookKey.parse(secret, "CONNECTOR_MCP_WEBHOOK_SECRET")
    assert caught.value.message.startswith("CONNECTOR_MCP_WEBHOOK_SECRET is not a signing secret")
    assert secret.removeprefix("whsec_") == "" or secret not in caught.value.message


def test_a_key_is_not_in_its_repr() -> None:
    assert repr(KEY) == "WebhookKey()"
