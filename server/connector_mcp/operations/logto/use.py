"""Using a Logto connector: test messages and the address that starts a social sign-in (facts: traps 13 to 15)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject
from connector_mcp.operations.logto import factories as rules
from connector_mcp.operations.logto.connectors import CONNECTORS, EXAMPLE_ID, ConnectorId
from connector_mcp.operations.logto.factories import FactoryId, GetConnectorFactory, LogtoOperation
from connector_mcp.operations.operation import Effect, Operation, Record, Target
from connector_mcp.operations.platform import POST, confirm_empty
from connector_mcp.operations.situation import ConfigUse, Situation


class Accepted(Record):
    """Confirmation that the provider accepted the message, which does not prove that it arrived."""

    accepted: bool | None = None


class AuthorizationUri(Record):
    """Address to send the person's browser to. It holds the client id and nothing else of the config."""

    redirect_to: str | None = None


class CreateConnectorTest(LogtoOperation):
    """Send a real test message with the config of an Email or Sms factory. It may cost money. Success says that the
    provider took the message, not that it arrived."""

    http = POST(f"{CONNECTORS}/{{factory_id}}/test")
    effect = Effect.CREATE
    output = Accepted
    repeatable = False
    acts_on = Target("connector factory", GetConnectorFactory, arguments={"id": "factory_id"})
    consequence = "Sends a real message through {factory_id}; the provider may charge for it."
    example = {
        "factory_id": "http-sms",
        "phone": "491701234567",
        "config": {"endpoint": "https://sms.example.com/send", "authorization": "<authorization>"},
    }

    factory_id: FactoryId
    config: Annotated[
        JsonObject, Field(description="The whole config, secrets and templates included: the stored one is not used.")
    ]
    phone: Annotated[
        str | None, Field(pattern="^[0-9]+$", description="Recipient of an SMS: digits with country code, no +.")
    ] = None
    email: Annotated[str | None, Field(pattern=r"^\S+@\S+\.\S+$", description="Recipient of an e-mail.")] = None
    locale: Annotated[str | None, Field(description="Language of the message, such as en.")] = None

    def find_configs(self, situation: Situation) -> tuple[ConfigUse, ...]:
        return (rules.checked_config(self.factory_id, self.config, situation.described),)

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find a wrong or missing recipient, a factory that sends no messages, and missing templates."""
        if unknown := tuple(rules.unknown_factory("factory_id", self.factory_id, situation.described)):
            yield from unknown
            return
        known = rules.factory_type(self.factory_id, situation.described)
        kind = rules.type_made(known)
        if kind == "Social" or rules.is_demo(self.factory_id):
            yield Issue("factory_id", "a factory that sends no messages", "an Email or Sms factory")
            return
        # An Email factory refuses a phone number even beside an e-mail address.
        if kind == "Email" and self.phone is not None:
            yield Issue("phone", "a phone number", "email instead: the factory sends e-mail", "a@example.com")
        elif kind == "Sms" and self.phone is None:
            got = "nothing" if self.email is None else "nothing (but email)"
            yield Issue("phone", got, "digits with country code: the factory sends SMS", "491701234567")
        elif self.phone is None and self.email is None:
            yield Issue("email" if kind == "Email" else "phone", "nothing", "a recipient: phone or email")
        if known:
            yield from rules.missing_config(known, self.config)

    def describe_effect(self, situation: Situation) -> str:
        """Say what is sent and to whom: a phone number decides, if both are given."""
        sent = "an SMS to {phone}" if self.phone is not None else "an e-mail to {email}"
        return f"Sends {sent} through factory {{factory_id}}: a real message, which the provider may charge for."

    def type_read(self, current: Any = None) -> Operation | None:
        """The factory, if it or a key of the config is not one that Logto ships."""
        return GetConnectorFactory(id=self.factory_id) if rules.needs_record(self.factory_id, self.config) else None

    def target_read(self) -> Operation | None:
        """Nothing: a test changes nothing on the platform."""
        return None

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        """Confirm that the message was accepted; the platform's own answer is empty."""
        return confirm_empty(answers[0], {"accepted": True})


class CreateConnectorAuthorizationUri(LogtoOperation):
    """Make the address where a user links an account of a social connector's provider. Not for oidc, oauth2, saml and
    others that need a session."""

    http = POST(f"{CONNECTORS}/{{connector_id}}/authorization-uri")
    effect = Effect.READ
    output = AuthorizationUri
    example = {"connector_id": EXAMPLE_ID, "state": "f3b1c0d2", "redirect_uri": "https://app.example.com/callback"}

    connector_id: ConnectorId
    state: Annotated[str, Field(min_length=1, description="Random value that your callback compares.")]
    redirect_uri: Annotated[str, Field(min_length=1, description="Address of your callback. Logto does not check it.")]


OPERATIONS = (CreateConnectorTest, CreateConnectorAuthorizationUri)
