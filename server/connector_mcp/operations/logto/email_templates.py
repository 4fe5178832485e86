"""Logto's e-mail templates by language (facts, continued: section 2, traps 6, 19 and 20).

They win over the templates in the config of the Email connector. Connectors that keep their templates at the provider
(postmark-mail, http-email, logto-email) do not use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members
from connector_mcp.operations.fields import ArgumentObject
from connector_mcp.operations.logto.factories import LogtoOperation
from connector_mcp.operations.operation import Effect, ListOperation, Paging, Record, Target, at
from connector_mcp.operations.platform import GET, PATCH, PUT
from connector_mcp.operations.situation import Loss, Path, Situation
from connector_mcp.operations.update import Merge, UpdateOperation

EMAIL_TEMPLATES = "/api/email-templates"
_CODE = re.compile(r"{{\s*code\s*}}")
_WITHOUT_CODE = frozenset({"OrganizationInvitation", "Generic"})
"""Types of e-mails that need no code."""

TemplateType = Literal[
    "SignIn", "Register", "ForgotPassword", "OrganizationInvitation", "Generic", "UserPermissionValidation",
    "BindNewIdentifier", "MfaVerification", "BindMfa",
]  # fmt: skip
LanguageTag = Annotated[
    str, Field(min_length=1, max_length=16, description="Language of the e-mail, such as en or de.")
]
ContentType = Literal["text/html", "text/plain"]


class TemplateDetails(ArgumentObject):
    """The e-mail itself."""

    subject: Annotated[str, Field(description="Subject line of the e-mail.")]
    content: Annotated[str, Field(description="Text with placeholders: {{code}}, or {{link}} for an invitation.")]
    content_type: Annotated[ContentType | None, Field(description="Kind of content of the text.")] = None
    reply_to: Annotated[str | None, Field(description="Address that replies go to.")] = None
    send_from: Annotated[str | None, Field(description="Name and address of the sender.")] = None


class EmailTemplate(ArgumentObject):
    """A template for a language and a type."""

    language_tag: LanguageTag
    template_type: Annotated[TemplateType, Field(description="Which e-mail it is for; Generic for all others.")]
    details: Annotated[TemplateDetails, Field(description="Subject and text of the e-mail.")]


class EmailTemplateRecord(Record):
    """An e-mail template."""

    id: str | None = None
    language_tag: str | None = None
    template_type: str | None = None
    details: JsonObject | None = None


class EmailTemplateOperation(LogtoOperation):
    """Base of the operations on e-mail templates."""

    toolset = "logto.email_templates"
    by_default = False
    output = EmailTemplateRecord
    heavy = frozenset({"tenantId"})


class ListEmailTemplates(EmailTemplateOperation, ListOperation):
    """List the e-mail templates by language and type. Where none fits, Logto uses those in the Email connector's
    config."""

    http = GET(EMAIL_TEMPLATES)
    paging = Paging(items="")
    summary = ("id", "languageTag", "templateType", "details")
    known_by = ()
    example = {"language_tag": "de"}

    language_tag: Annotated[str | None, Field(description="Only templates in this language, such as de.")] = None
    template_type: Annotated[str | None, Field(description="Only templates for this type, such as SignIn.")] = None


class GetEmailTemplate(EmailTemplateOperation):
    """Get an e-mail template with its subject and text."""

    http = GET(f"{EMAIL_TEMPLATES}/{{id}}")
    effect = Effect.READ
    example = {"id": "t1a2b3c4d5e6"}

    id: Annotated[str, Field(description="Id of the template. logto_list_email_templates lists them.")]


class ReplaceEmailTemplates(EmailTemplateOperation):
    """Create e-mail templates, or replace those of the same language and type. Other templates stay. Users get them
    at once."""

    http = PUT(EMAIL_TEMPLATES)
    effect = Effect.CREATE
    overwrites = True
    returns_list = True
    acts_on = Target("e-mail templates", ListEmailTemplates, name=lambda _operation, _record: "e-mail templates")
    can_destroy = True
    consequence = "Stores e-mail templates; Logto sends e-mail with them at once."
    reads_back = GetEmailTemplate
    unproven = "Only a message shows how it looks: logto_create_connector_test sends the Generic template."
    example = {
        "templates": [
            {
                "languageTag": "de",
                "templateType": "SignIn",
                "details": {"subject": "Ihr Code", "content": "Code: {{code}}", "contentType": "text/plain"},
            }
        ]
    }

    templates: Annotated[list[EmailTemplate], Field(min_length=1, description="Templates, each whole as it will be.")]

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find templates without the code that they are for, which Logto does not check, and those named twice."""
        seen: set[tuple[str, str]] = set()
        for index, template in enumerate(self.templates):
            path, key = f"templates[{index}]", (template.language_tag, template.template_type)
            if key in seen:
                yield Issue(path, "a second template of this language and type", "one template for both")
            seen.add(key)
            yield from _without_code(f"{path}.details.content", template.template_type, template.details.content)

    def find_losses(self, situation: Situation) -> Iterator[Loss]:
        """The templates of the same language and type, which are replaced with all their details."""
        given = {(each.language_tag, each.template_type) for each in self.templates}
        for stored in map(members, items(situation.current)):
            language, kind = stored.get("languageTag"), stored.get("templateType")
            if (language, kind) in given and not any(_shows(stored, each) for each in self._sent()):
                said = f"Replaces the {kind} template in {language}"
                yield Loss(said, ("templates", str(stored.get("id"))), stored.get("details"))

    def find_missing(self, shown: Any) -> list[str]:
        return [
            f"the {sent['templateType']} template in {sent['languageTag']}"
            for sent in self._sent()
            if not any(_shows(row, sent) for row in items(shown))
        ]

    def _sent(self) -> list[JsonObject]:
        return dict(self.given("body"))["templates"]


def _shows(stored: Any, sent: JsonObject) -> bool:
    """Whether a stored template has all that is sent."""
    return all(at(stored, key) == value for key, value in sent.items())


class UpdateEmailTemplateDetails(EmailTemplateOperation, UpdateOperation):
    """Change subject, text or sender of an e-mail template; what is left out stays. Users get it at once."""

    http = PATCH(f"{EMAIL_TEMPLATES}/{{id}}/details")
    acts_on = Target(
        "e-mail template",
        GetEmailTemplate,
        name=lambda _operation, record: f"{at(record, 'templateType')} in {at(record, 'languageTag')}",
    )
    strategy = Merge()
    consequence = "Changes e-mail template {name} (id {id}); Logto sends e-mail with it at once."
    example = {"id": "t1a2b3c4d5e6", "subject": "Ihr Code"}

    id: Annotated[str, Field(description="Id of the template. logto_list_email_templates lists them.")]
    subject: Annotated[str | None, Field(description="New subject line of the e-mail.")] = None
    content: Annotated[str | None, Field(description="New text, with {{code}} where its type needs one.")] = None
    content_type: Annotated[ContentType | None, Field(description="Kind of content of the text.")] = None
    reply_to: Annotated[str | None, Field(description="Address that replies go to.")] = None
    send_from: Annotated[str | None, Field(description="Name and address of the sender.")] = None

    def given_members(self) -> JsonObject:
        """The details, which the record keeps in one object."""
        given = super().given_members()
        return {"details": given} if given else {}

    def complete_members(self, current: JsonObject) -> JsonObject:
        given = self.given_members()
        return {"details": members(current.get("details")) | given["details"]} if given else {}

    def make_body(self, situation: Situation) -> Any:
        return dict(self.given("body"))

    def plan_changes(self, situation: Situation) -> dict[Path, Any]:
        return {("details", key): value for key, value in self.given("body")}

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        if not self.given_members():
            wanted = "at least one of subject, content, content_type, reply_to, send_from"
            yield Issue("subject", "nothing", wanted)
        yield from _without_code("content", at(situation.current, "templateType"), self.content)


def _without_code(path: str, kind: Any, content: str | None) -> Iterator[Issue]:
    if content is not None and isinstance(kind, str) and kind not in _WITHOUT_CODE and not _CODE.search(content):
        yield Issue(path, "a text without {{code}}", f"{{{{code}}}} in it, where {kind} e-mails have their code")


OPERATIONS = (ListEmailTemplates, GetEmailTemplate, ReplaceEmailTemplates, UpdateEmailTemplateDetails)
