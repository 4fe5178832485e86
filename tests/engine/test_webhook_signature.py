"""Signatures of webhooks, held against the Standard Webhooks project's own library and the vector of its tests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from connector_mcp.engine.approval.webhook_signature import TOLERANCE, SigningKey, Unsigned
from connector_mcp.errors import Misconfigured

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "b3RoZXIg" * 4
KEY = SigningKey.of(SECRET, "SETTING")
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330


def listed(headers: Mapping[str, str], **changed: str) -> dict[str, list[str]]:
    return {name: [value] for name, value in {**headers, **changed}.items()}


def test_the_signature_is_that_of_the_specification() -> None:
    assert KEY.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_library_of_the_specification_takes_our_signature() -> None:
    headers = KEY.headers("parked-ap-7mk2qd", int(time.time()), BODY)

    assert Webhook(SECRET).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(BODY, headers)


def test_we_take_the_signature_of_that_library() -> None:
    signature = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}

    assert KEY.check(listed(headers), BODY, NOW) == "msg_1"


def test_one_right_signature_among_others_is_enough() -> None:
    headers = KEY.headers("msg_1", NOW, BODY)
    others = f"v1,AAAA v2,{'x' * 20} v1a,zzzz nonsense v1,!! {headers['webhook-signature']}"

    assert KEY.check(listed(headers) | {"webhook-signature": [others]}, BODY, NOW) == "msg_1"


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": ["msg_2"]},
        {"webhook-id": ["msg_1", "msg_1"]},
        {"webhook-id": []},
        {"webhook-id": [""]},
        {"webhook-id": ["a.b"]},
        {"webhook-id": ["m" * 129]},
        {"webhook-timestamp": [str(NOW + 1)]},
        {"webhook-timestamp": ["1e9"]},
        {"webhook-timestamp": [f"+{NOW}"]},
        {"webhook-timestamp": [" "]},
        {"webhook-timestamp": ["9" * 400]},
        {"webhook-signature": [""]},
        {"webhook-signature": ["v1,"]},
        {"webhook-signature": ["v1,é"]},
        {"webhook-signature": ["v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="]},
    ],
)
def test_anything_else_is_not_signed(changed: dict[str, list[str]]) -> None:
    with pytest.raises(Unsigned):
        KEY.check(listed(KEY.headers("msg_1", NOW, BODY)) | changed, BODY, NOW)


def test_an_altered_body_and_the_key_of_another_are_not_signed() -> None:
    headers = listed(KEY.headers("msg_1", NOW, BODY))
    with pytest.raises(Unsigned):
        KEY.check(headers, BODY + b" ", NOW)
    with pytest.raises(Unsigned):
        SigningKey.of(OTHER, "SETTING").check(headers, BODY, NOW)


def test_what_is_moved_over_the_separator_is_not_signed() -> None:
    signed = KEY.headers("msg_1", NOW, b"200." + BODY)
    moved = listed(signed) | {"webhook-id": [f"msg_1.{NOW}"], "webhook-timestamp": ["200"]}
    with pytest.raises(Unsigned):
        KEY.check(moved, BODY, 200)


@pytest.mark.parametrize("late", [-TOLERANCE - 1, TOLERANCE + 1])
def test_a_message_is_taken_for_five_minutes_to_both_sides(late: float) -> None:
    headers = listed(KEY.headers("msg_1", NOW, BODY))
    for near in (-TOLERANCE, TOLERANCE):
        assert KEY.check(headers, BODY, NOW + near) == "msg_1"
    with pytest.raises(Unsigned, match="300 seconds"):
        KEY.check(headers, BODY, NOW + late)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", SECRET.removeprefix("whsec_"), "whsec_" + "AAAA" * 22]
)
def test_what_is_no_secret_of_the_form_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        SigningKey.of(secret, "CONNECTOR_MCP_WEBHOOK_SECRET")
    assert caught.value.message.startswith("CONNECTOR_MCP_WEBHOOK_SECRET is no signing secret")
    assert secret.removeprefix("whsec_") == "" or secret not in caught.value.message


def test_a_key_is_not_in_its_repr() -> None:
    assert repr(KEY) == "SigningKey()"
