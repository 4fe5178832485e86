"""Logto's sign-in experience: who can sign in, and how (facts, continued: sections 1 to 3, traps 1 to 6 and 21).

A tenant has one sign-in experience. It decides which connectors have an effect, so that a change of it can shut people
out or let people in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from connector_mcp.errors import Issue
from connector_mcp.json_values import JsonObject, items, members, text
from connector_mcp.operations.fields import ArgumentObject, in_query
from connector_mcp.operations.logto.factories import Fields, LogtoOperation
from connector_mcp.operations.operation import Effect, Record, Target, at
from connector_mcp.operations.platform import GET, PATCH
from connector_mcp.operations.situation import Loss, Situation
from connector_mcp.operations.update import Merge, NamedItems, UpdateOperation

SIGN_IN_EXP = "/api/sign-in-exp"
_LOOKS = frozenset(
    ("color", "branding", "hideLogtoBranding", "customCss", "customContent", "customUiAssets", "passwordPolicy")
) | frozenset(("captchaPolicy", "sentinelPolicy", "emailBlocklistPolicy", "agreeToTermsPolicy", "tenantId"))

_SOCIAL = ("automaticAccountLinking", "skipRequiredIdentifiers")

Identifier = Literal["username", "email", "phone"]


class SignUp(ArgumentObject):
    """What new users give."""

    identifiers: Annotated[list[Identifier], Field(description="Empty: sign-up by social accounts only.")]
    password: Annotated[bool, Field(description="Whether new users set one.")]
    verify: Annotated[bool, Field(description="Whether by a code; true for email and phone.")]
    secondary_identifiers: Annotated[
        list[JsonObject] | None,
        Field(description="Objects of identifier (also emailOrPhone) and verify."),
    ] = None


class SignInMethod(ArgumentObject):
    """A way to sign in without a connector's page."""

    identifier: Annotated[Identifier, Field(description="What users type in first.")]
    password: Annotated[bool, Field(description="Whether it lets them in.")]
    verification_code: Annotated[bool, Field(description="Whether a code does.")]
    is_password_primary: Annotated[bool, Field(description="Whether it comes first.")]


class SignIn(ArgumentObject):
    """The ways to sign in with an identifier."""

    methods: Annotated[list[SignInMethod], Field(description="All methods that are to be there.")]


class SignInExpRecord(Record):
    """The sign-in experience; a social connector is shown if `socialSignInConnectorTargets` has its target."""

    sign_in_mode: str | None = None
    sign_up: JsonObject | None = None
    sign_in: JsonObject | None = None
    social_sign_in: JsonObject | None = None
    social_sign_in_connector_targets: list[str] | None = None
    single_sign_on_enabled: bool | None = None
    forgot_password_methods: list[str] | None = None


class SignInOperation(LogtoOperation):
    """Base of the operations on the sign-in experience."""

    toolset = "logto.sign_in"
    output = SignInExpRecord
    heavy = _LOOKS


class GetSignInExp(SignInOperation):
    """Get the sign-in experience: which social connectors are shown, the methods for sign-up and sign-in, whether
    single sign-on is on. Colors, policies and the like only with fields."""

    http = GET(SIGN_IN_EXP)
    effect = Effect.READ
    example = {"fields": ["socialSignInConnectorTargets", "singleSignOnEnabled"]}

    fields: Fields = None


class PublicSignInExpRecord(SignInExpRecord):
    """What a sign-in page loads: the connectors that people see."""

    social_connectors: list[JsonObject] | None = None
    sso_connectors: list[JsonObject] | None = None
    forgot_password: JsonObject | None = None


class GetSignInExperienceConfig(SignInOperation):
    """Get what the sign-in page loads: the social and SSO connectors that people see, and the methods. It may lag
    behind a change for a while."""

    by_default = False
    http = GET("/api/.well-known/sign-in-exp")
    effect = Effect.READ
    output = PublicSignInExpRecord
    example = {"fields": ["socialConnectors", "ssoConnectors"]}

    organization: Annotated[
        str | None, Field(description="Id of an organization with its own page."), in_query("organizationId")
    ] = None
    app: Annotated[str | None, Field(description="Id of an application with its own page."), in_query("appId")] = None
    fields: Fields = None

    def shape_result(self, answers: Sequence[Any], situation: Situation) -> Any:
        shown = members(answers[0])
        lists = [key for key in ("socialConnectors", "ssoConnectors") if key in shown]
        return shown | {key: list(map(_without_logos, items(shown[key]))) for key in lists} if shown else answers[0]


def _without_logos(connector: Any) -> JsonObject:
    return {key: value for key, value in members(connector).items() if "logo" not in key.lower()}


class UpdateSignInExp(SignInOperation, UpdateOperation):
    """Change who can sign in and how, for all users at once. Each argument replaces its whole value, so
    get it first and send all that is to stay."""

    http = PATCH(SIGN_IN_EXP)
    acts_on = Target("sign-in experience", GetSignInExp, name=lambda _operation, _record: "sign-in experience")
    strategy = Merge()
    named_items = {"signIn.methods": NamedItems(("identifier",))}
    consequence = "Changes the sign-in experience: how all users of the tenant sign in and sign up, at once."
    example = {"social_sign_in_connector_targets": ["github", "google"]}

    social_sign_in_connector_targets: Annotated[
        list[str] | None,
        Field(description="All targets to show, in order. logto_list_connectors has them."),
    ] = None
    social_sign_in: Annotated[
        dict[str, bool] | None,
        Field(description="automaticAccountLinking (to users with the same address), skipRequiredIdentifiers."),
    ] = None
    sign_in_mode: Annotated[
        Literal["SignIn", "Register", "SignInAndRegister"] | None,
        Field(description="Whether people can sign in, sign up, or both."),
    ] = None
    sign_up: Annotated[SignUp | None, Field(description="How people sign up. Send sign_in with it.")] = None
    sign_in: Annotated[SignIn | None, Field(description="How people sign in with identifiers.")] = None
    forgot_password_methods: Annotated[
        list[Literal["EmailVerificationCode", "PhoneVerificationCode"]] | None,
        Field(description="Ways to reset one; empty for none."),
    ] = None
    single_sign_on_enabled: Annotated[
        bool | None, Field(description="true: SSO connectors alone let their domains in.")
    ] = None

    def find_hidden_losses(self, situation: Situation) -> Iterator[Loss]:
        now = members(situation.current)
        yield from _hidden_buttons(self.social_sign_in_connector_targets, now)
        given = self.given_members()
        yield from _removed_ways(members(given.get("signIn")), now)
        yield from _changed_access(given, now)

    def find_problems(self, situation: Situation) -> Iterator[Issue]:
        """Find nothing to change, and what Logto would refuse whatever connectors there are."""
        given = self.given_members()
        if not given:
            yield Issue("social_sign_in_connector_targets", "nothing", "at least one argument to change")
        if (self.social_sign_in or {}).keys() - set(_SOCIAL):
            yield Issue("social_sign_in", "an unknown member", f"one of {', '.join(_SOCIAL)}")
        yield from _sign_up_problems(self.sign_up)
        yield from _sign_in_problems(given, members(situation.current))

    def find_unproven(self, data: Any) -> str:
        """Name the targets that Logto dropped because no social connector has them."""
        kept = items(at(data, "socialSignInConnectorTargets"))
        dropped = [target for target in self.social_sign_in_connector_targets or () if target not in kept]
        if not dropped or data is None:
            return ""
        return f"Logto dropped {len(dropped)} of the targets: no social connector has them; see logto_list_connectors."


def _hidden_buttons(targets: Sequence[str] | None, now: JsonObject) -> Iterator[Loss]:
    for target in items(now.get("socialSignInConnectorTargets")) if targets is not None else ():
        if target not in targets:
            said = f"Hides the sign-in button of {target}, so that its users no longer find it"
            yield Loss(said, ("socialSignInConnectorTargets",), target)


def _removed_ways(given: JsonObject, now: JsonObject) -> Iterator[Loss]:
    """Passwords and codes that no longer let users in, though their method stays."""
    after = {text(at(each, "identifier")): members(each) for each in items(given.get("methods"))}
    for method in map(members, items(at(now, "signIn.methods")) if "methods" in given else ()):
        name = text(method.get("identifier"))
        for member, what in (("password", "a password"), ("verificationCode", "a verification code")):
            if name in after and method.get(member) is True and after[name].get(member) is False:
                yield Loss(f"Takes sign-in by {name} with {what} away", ("signIn", "methods", str(name), member), True)


def _changed_access(given: JsonObject, now: JsonObject) -> Iterator[Loss]:
    """What a single value that changes does to everyone."""
    mode, stops = given.get("signInMode"), {"SignIn": "sign-ups", "Register": "sign-ins"}
    if mode in stops and mode != now.get("signInMode"):
        yield Loss(f"Stops all {stops[mode]}", ("signInMode",), now.get("signInMode"))
    if mode in ("Register", "SignInAndRegister") and now.get("signInMode") not in ("Register", "SignInAndRegister"):
        yield Loss("Lets anyone sign up for an account", ("signInMode",), now.get("signInMode"))
    single, was = given.get("singleSignOnEnabled"), now.get("singleSignOnEnabled")
    if single is True and was is not True:
        said = "Shuts password, code and social sign-in for all e-mail domains of the SSO connectors"
        yield Loss(said, ("singleSignOnEnabled",), was)
    if single is False and was is not False:
        yield Loss("Switches off single sign-on for all SSO connectors", ("singleSignOnEnabled",), was)
    linking = ("socialSignIn", "automaticAccountLinking")
    if at(given, linking) is True and at(now, linking) is not True:
        said = "Lets social accounts into the existing user with the same e-mail address or phone number"
        yield Loss(said, linking, at(now, linking))
    kept = given.get("forgotPasswordMethods")
    before = now.get("forgotPasswordMethods")
    if kept is not None and (before is None or any(each not in kept for each in items(before))):
        yield Loss("May take ways to reset a password away", ("forgotPasswordMethods",), before)
    for member, said in (("password", "Lets new users set no password"), ("verify", "Takes unverified addresses")):
        if at(given, f"signUp.{member}") is False and at(now, f"signUp.{member}") is True:
            yield Loss(f"{said} at sign-up", ("signUp", member), True)
    gone = [each for each in items(at(now, "signUp.identifiers")) if each not in items(at(given, "signUp.identifiers"))]
    if "signUp" in given and gone:
        yield Loss(f"Takes sign-up by {', '.join(map(str, gone))} away", ("signUp", "identifiers"), gone)


def _sign_up_problems(sign_up: SignUp | None) -> Iterator[Issue]:
    if sign_up is None:
        return
    secondary = sign_up.secondary_identifiers or []
    for index, each in enumerate(secondary):
        path = f"sign_up.secondaryIdentifiers[{index}]"
        if each.get("identifier") not in ("username", "email", "phone", "emailOrPhone"):
            yield Issue(f"{path}.identifier", "another value", "username, email, phone or emailOrPhone")
        elif each.get("identifier") != "username" and each.get("verify") is not True:
            yield Issue(f"{path}.verify", "nothing", "true for all but username", "true")
        if each.keys() - {"identifier", "verify"}:
            yield Issue(path, "an unknown member", "identifier and verify only")
    if not sign_up.verify and any(each != "username" for each in sign_up.identifiers):
        yield Issue("sign_up.verify", "false", "true, which email and phone need", "true")
    names = [*sign_up.identifiers, *(str(each.get("identifier")) for each in secondary)]
    if len(set(names)) < len(names) or ("emailOrPhone" in names and {"email", "phone"} & set(names)):
        yield Issue("sign_up.identifiers", "an identifier twice", "each identifier once")
    if secondary and not sign_up.identifiers:
        yield Issue("sign_up.identifiers", "none", "at least one, since there are secondary identifiers")


def _sign_in_problems(given: JsonObject, now: JsonObject) -> Iterator[Issue]:
    """Find methods that let no one in, and methods that do not fit the given or stored sign-up."""
    sign_up = members(given.get("signUp", now.get("signUp")))
    codes_only = sign_up.get("verify") is True and sign_up.get("password") is False
    if not {"signUp", "signIn"} & given.keys():
        return
    source = given.get("signIn", now.get("signIn"))
    for index, method in enumerate(map(members, items(at(source, "methods")))):
        path = f"sign_in.methods[{index}]"
        if method.get("password") is False and method.get("verificationCode") is False:
            yield Issue(path, "a method with neither", "password or verificationCode true")
        elif codes_only and method.get("identifier") != "username" and method.get("verificationCode") is False:
            wanted = "true, since new users set no password"
            if "signIn" not in given:
                wanted += "; send sign_in with sign_up"
            yield Issue(f"{path}.verificationCode", "false", wanted, "true")


OPERATIONS = (GetSignInExp, UpdateSignInExp, GetSignInExperienceConfig)
