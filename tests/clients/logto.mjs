// The connector calls of Logto's own client of its Management API, against the LOGTO_ENDPOINT of a sandbox.
// What it gets is compared with what it sent. It prints one JSON object, or ends with an error.
import assert from "node:assert/strict";
import { createManagementApi } from "@logto/api/management";

const { apiClient } = createManagementApi("default", {
  clientId: process.env.LOGTO_APP_ID,
  clientSecret: process.env.LOGTO_APP_SECRET,
  baseUrl: process.env.LOGTO_ENDPOINT,
  apiIndicator: "https://default.logto.app/api",
});

async function call(method, path, options = {}) {
  const { data, error, response } = await apiClient[method](path, options);
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(error)}`);
  return data;
}

const at = (id, more = {}) => ({ params: { path: { id, ...more } } });

// Connectors and their factories
const factories = await call("GET", "/api/connector-factories");
const github = await call("GET", "/api/connector-factories/{id}", at("facebook-universal"));
assert.ok(factories.some(({ id, target }) => id === github.id && target === "facebook"));
const config = { clientId: "one", clientSecret: "two", scope: "email" };
const made = await call("POST", "/api/connectors", { body: { connectorId: github.id, config } });
assert.deepEqual([made.connectorId, made.type, made.config], [github.id, "Social", config]);
const read = await call("GET", "/api/connectors/{id}", at(made.id));
assert.deepEqual(read, made);
const listed = await call("GET", "/api/connectors", { params: { query: { target: "facebook" } } });
assert.deepEqual(listed, [made]);
assert.ok((await call("GET", "/api/connectors", { params: { query: { target: "" } } })).length > 1);
const changed = { clientId: "one", clientSecret: "three" };
const updated = await call("PATCH", "/api/connectors/{id}", { ...at(made.id), body: { config: changed, syncProfile: true } });
assert.deepEqual([updated.config, updated.syncProfile], [changed, true]);
const { redirectTo } = await call("POST", "/api/connectors/{connectorId}/authorization-uri", {
  params: { path: { connectorId: made.id } },
  body: { state: "s", redirectUri: "https://app.example/callback" },
});
assert.equal(new URL(redirectTo).searchParams.get("client_id"), "one");
const sms = { endpoint: "https://sms.example/send" };
await call("POST", "/api/connectors/{factoryId}/test", {
  params: { path: { factoryId: "http-sms" } },
  body: { phone: "491701234567", config: sms },
});

// A social connector is visible once the sign-in experience names its target.
const seen = async () => {
  await call("GET", "/api/.well-known/sign-in-exp");
  return (await call("GET", "/api/.well-known/sign-in-exp")).socialConnectors.map(({ target }) => target);
};
const before = await call("GET", "/api/sign-in-exp");
assert.ok(!(await seen()).includes("facebook"));
const targets = [...before.socialSignInConnectorTargets, "facebook"];
const after = await call("PATCH", "/api/sign-in-exp", { body: { socialSignInConnectorTargets: targets } });
assert.deepEqual(after, { ...before, socialSignInConnectorTargets: targets });
assert.ok((await seen()).includes("facebook"));

// Enterprise SSO
const providers = await call("GET", "/api/sso-connector-providers");
assert.ok(providers.some(({ providerName }) => providerName === "SAML"));
const sso = await call("POST", "/api/sso-connectors", { body: { providerName: "SAML", connectorName: "Acme" } });
const key = await call("POST", "/api/sso-connectors/{id}/signing-keys", { ...at(sso.id), body: { active: true } });
assert.deepEqual(await call("GET", "/api/sso-connectors/{id}/signing-keys", at(sso.id)), [key]);
await call("PATCH", "/api/sso-connectors/{id}/signing-keys/{keyId}", {
  ...at(sso.id, { keyId: key.id }),
  body: { active: false },
});
const saml = await call("PATCH", "/api/sso-connectors/{id}", {
  ...at(sso.id),
  body: { domains: ["acme.example"], config: { metadataUrl: "https://idp.acme.example/metadata" } },
});
assert.deepEqual([saml.domains, saml.providerConfig.identityProvider.isCertificateValid], [["acme.example"], true]);
const page = { params: { query: { page: 1, page_size: 100 } } };
assert.ok((await call("GET", "/api/sso-connectors", page)).some(({ id }) => id === sso.id));
assert.deepEqual(await call("GET", "/api/sso-connectors/{id}", at(sso.id)), saml);
await call("DELETE", "/api/sso-connectors/{id}", at(sso.id));

// E-mail templates
const details = { subject: "Ihr Code", content: "Code: {{code}}", contentType: "text/plain" };
const [template] = await call("PUT", "/api/email-templates", {
  body: { templates: [{ languageTag: "de", templateType: "SignIn", details }] },
});
const subject = { body: { subject: "Anmeldung" } };
const renamed = await call("PATCH", "/api/email-templates/{id}/details", { ...at(template.id), ...subject });
assert.deepEqual(renamed.details, { ...details, subject: "Anmeldung" });
assert.deepEqual(await call("GET", "/api/email-templates/{id}", at(template.id)), renamed);
assert.ok((await call("GET", "/api/email-templates")).some(({ id }) => id === template.id));

await call("DELETE", "/api/connectors/{id}", at(made.id));
const { error, response } = await apiClient.GET("/api/connectors/{id}", at(made.id));
console.log(JSON.stringify({ refused: { status: response.status, code: error.code } }));
