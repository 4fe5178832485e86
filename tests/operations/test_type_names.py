"""Connector types are found by what people call them, and what may mean several is never taken for one."""

from __future__ import annotations

import pytest

from connector_mcp.engine.results import encode
from connector_mcp.errors import InvalidArguments
from connector_mcp.operations.catalog import PLATFORMS
from connector_mcp.operations.connector_types import connector_types
from connector_mcp.operations.logto.connectors import CreateConnector
from connector_mcp.operations.situation import Situation
from connector_mcp.operations.type_names import find_type, similar_types, unknown_type
from connector_mcp.operations.vectorize.source_connectors import CreateSourceConnector
from tests.operations.hooks import describe

DRIVES = {"GOOGLE_DRIVE", "GOOGLE_DRIVE_OAUTH", "GOOGLE_DRIVE_OAUTH_MULTI", "GOOGLE_DRIVE_OAUTH_MULTI_CUSTOM"}
MEANT: dict[tuple[str, str], set[str]] = {
    ("logto", "google"): {"google-universal"},
    ("logto", "GOOGLE-UNIVERSAL"): {"google-universal"},
    ("logto", "googleUniversal"): {"google-universal"},
    ("logto", "Google sign-in connector"): {"google-universal"},
    ("logto", "gmail"): {"google-universal", "simple-mail-transfer-protocol"},
    ("logto", "twilio"): {"twilio-short-message-service"},
    ("logto", "twilio-sms"): {"twilio-short-message-service"},
    ("logto", "twillio"): {"twilio-short-message-service"},
    ("logto", " smtp "): {"simple-mail-transfer-protocol"},
    ("logto", "azure"): {"azuread-universal"},
    ("logto", "office365"): {"azuread-universal"},
    ("logto", "slack messages"): {"slack-universal"},
    ("logto", "wechat"): {"wechat-web", "wechat-native"},
    ("logto", "http"): {"http-email", "http-sms"},
    ("logto", "s3"): set(),
    ("vectorize", "s3"): {"AWS_S3"},
    ("vectorize", "S3 bucket"): {"AWS_S3"},
    ("vectorize", "AWS_S4"): {"AWS_S3"},
    ("vectorize", "google drive"): DRIVES,
    ("vectorize", "google-drive"): DRIVES,
    ("vectorize", "gmail"): {"GMAIL"},
    ("vectorize", "office365"): {"ONE_DRIVE", "SHAREPOINT"},
    ("vectorize", "OneDrive"): {"ONE_DRIVE"},
    ("vectorize", "website"): {"WEB_CRAWLER", "FIRECRAWL"},
    ("vectorize", "slack messages"): set(),
    ("versori", "rest api"): {"http"},
    ("conductorone", "slack messages"): {"Slack", "Slack Enterprise Grid"},
    ("conductorone", "Okta v2"): {"Okta v2"},
    ("conductorone", "github"): {"GitHub", "GitHub v2", "GitHub v2 Test", "GitHub Enterprise"},
    ("conductorone", "office365"): {"Microsoft 365", "Microsoft Dynamics 365"},
    ("logto", ""): set(),
    ("logto", "zzzz" * 50_000): set(),
}
TAKEN = ["google", "twilio", "twilio-sms", "s3", "OneDrive", "Okta v2", " smtp ", "azure", "gmail"]


@pytest.mark.parametrize(("platform", "name"), MEANT, ids=lambda value: value[:20])
def test_a_name_means_the_types_that_have_its_words(platform: str, name: str) -> None:
    meant, found = MEANT[platform, name], find_type(platform, name)
    assert {each.name if platform == "conductorone" else each.type for each in similar_types(platform, name)} == meant
    assert found is None or len(meant) == 1
    if len(meant) == 1:
        (only,) = similar_types(platform, name)
        assert describe(platform=platform, type=name)["notes"][0].startswith(f"{only.type} is the only type")
        return
    if meant:
        found = describe(platform=platform, type=name)
        assert {row.partition(": ")[0] for row in found["types"]} == {
            each.type for each in similar_types(platform, name)
        }
        assert found["notes"] == [
            f"{len(meant)} types fit. Call again with the id of one, which stands before the colon."
        ]
        assert len(encode(found)) <= 1_000
        return
    with pytest.raises(InvalidArguments) as refused:
        describe(platform=platform, type=name)
    (issue,) = refused.value.issues
    assert issue.example is None
    assert "with only platform" in refused.value.fix


# What people ask for in their own words, with a type that must be among the found ones.
ASKED = [
    ("something for Slack messages", {"logto": "Slack", "conductorone": "Slack"}),
    ("a mailbox", {"vectorize": "Gmail", "logto": "SMTP", "conductorone": "Google Workspace"}),
    ("mailboxes", {"vectorize": "Gmail", "logto": "SMTP", "conductorone": "Microsoft 365"}),
    ("a rest api with a key", {"versori": "API key", "conductorone": "HTTP", "logto": "HTTP Email"}),
    ("our REST API", {"versori": "HTTP", "conductorone": "HTTP"}),
    ("I want to read files from a bucket", {"vectorize": "GCP Cloud Storage"}),
    ("Azure object storage", {"vectorize": "Azure Blob Storage"}),
    ("vector database", {"vectorize": "Pinecone"}),
    ("an LLM or embedding model", {"vectorize": "OpenAI"}),
    ("meeting recordings", {"vectorize": "Fireflies.ai", "conductorone": "Zoom"}),
    ("the pages of our website", {"vectorize": "Web Crawler"}),
    ("wiki", {"vectorize": "Confluence", "conductorone": "Confluence"}),
    ("send emails", {"logto": "AWS Direct Mail"}),
    ("text messages to phones", {"logto": "Twilio SMS Service"}),
    ("single sign-on with Okta", {"logto": "Okta"}),
    ("custom OIDC provider", {"logto": "OIDC"}),
    ("bearer token", {"versori": "API key"}),
    ("user name and password", {"versori": "Basic authentication"}),
    ("mTLS", {"versori": "Client certificate"}),
    ("HR system", {"conductorone": "BambooHR"}),
    ("tickets", {"conductorone": "Zendesk"}),
    (
        "I would like to connect something that reads all the messages and channels of our Slack workspaces",
        {"conductorone": "Slack"},
    ),
    ("our git repositories", {"conductorone": "GitLab", "vectorize": "GitHub"}),
]


@pytest.mark.parametrize(("asked", "meant"), ASKED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_search_in_a_persons_words_finds_a_type_on_each_platform_that_has_one(
    asked: str, meant: dict[str, str]
) -> None:
    for platform, name in meant.items():
        found = describe(platform=platform, type=asked)
        rows = found.get("types") or [f"{found['type']}: {found['name']}"]
        ids = {row.partition(": ")[0] for row in rows}
        assert name in {connector_types(platform)[each].name for each in ids}, rows
        assert len(encode(found)) <= 2_000


def test_a_plain_name_of_one_type_saves_a_call_and_every_id_is_its_own() -> None:
    assert {name for (platform, name) in MEANT if find_type(platform, name)} >= set(TAKEN)
    for platform in PLATFORMS:
        for key, known in connector_types(platform).items():
            assert find_type(platform, key) == known
            assert known.name in [each.name for each in similar_types(platform, known.name)]
            assert describe(platform=platform, type=key)["type"] == key


def test_what_cannot_be_chosen_is_told_with_what_to_do_and_no_list_has_no_end() -> None:
    refused = unknown_type("type", "vectorize", "gmail", "", fits=lambda kind: kind.creatable)
    assert refused.got == "a type that cannot be chosen here"
    assert "in the Vectorize console" in refused.wanted
    unlike = unknown_type("type", "vectorize", "NOPE", "one of A.", fits=lambda kind: kind.type == "AWS_S3")
    assert (unlike.got, unlike.wanted) == ("an unknown type", "one of A."), "only its letters are like those of OPENAI"
    assert "wanted one of A. Nothing" in InvalidArguments("t", [unlike]).message
    many = unknown_type("type", "logto", "sms", "ask for the list")
    assert many.wanted.count("(") == 6
    assert many.wanted.endswith("more; ask for the list")


@pytest.mark.parametrize("name", ["google", "Google", "GOOGLE", "google sign-in", "goggle", "googleUniversal"])
def test_a_creation_is_refused_with_the_types_that_its_unknown_type_may_mean(name: str) -> None:
    (issue,) = CreateConnector(connector_id=name, config={"clientId": "a"}).find_problems(Situation(described={}))
    assert (issue.path, issue.example) == ("connector_id", "google-universal")
    connector = {"name": "a", "type": name.lower().replace("goo", "one drive ")}
    made = CreateSourceConnector.model_validate({"organization_id": "o", "connectors": [connector]})
    (issue,) = made.find_problems(Situation())
    assert (issue.path, issue.example) == ("connectors[0].type", "ONE_DRIVE" if "goo" in name.lower() else None)
