// An OAuth authorization server (oidc-provider) in which everyone is signed in and consents. It prints its issuer, then
// obeys commands, one a line on stdin: `rotate` signs with a new key from now on, `audience URL` has every new access
// token name that audience, and `audience` alone the requested one again. Each is confirmed by a line on stdout.

import { createServer } from 'node:http';
import { generateKeyPair } from 'node:crypto';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import Provider from 'oidc-provider';

const SCOPES = 'connectors:read connectors:write connectors:destroy';
const CLIENTS = [
  { client_id: 'machine', client_secret: 'machine-secret', grant_types: ['client_credentials'], response_types: [], redirect_uris: [] },
  { client_id: 'agent', token_endpoint_auth_method: 'none', redirect_uris: ['http://127.0.0.1/callback'], application_type: 'native' },
];
const say = (line) => process.stdout.write(`${line}\n`);

// Its notices must not stand between the answers.
console.info = console.error;

let audience = '';
let keys = [];
let provider = null;

async function addKey() {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  keys = [{ ...privateKey.export({ format: 'jwk' }), kid: `key-${keys.length + 1}`, use: 'sig', alg: 'RS256' }];
}

function makeProvider(issuer) {
  return new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ['only for tests'] },
    scopes: SCOPES.split(' '),
    clients: CLIENTS.map((client) => ({ ...client, scope: SCOPES })),
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPES,
          audience: audience || resource,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
        useGrantedResource: () => true,
      },
    },
  });
}

async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') {
    await provider.interactionFinished(request, response, { login: { accountId: 'alice' } });
    return;
  }
  const owner = { accountId: session.accountId, clientId: params.client_id };
  const grant = grantId ? await provider.Grant.find(grantId) : new provider.Grant(owner);
  grant.addOIDCScope(params.scope);
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  const consent = { grantId: await grant.save() };
  await provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

const server = createServer((request, response) => {
  const answered = request.url.startsWith('/interaction/') ? interact(request, response) : null;
  if (answered === null) provider.callback()(request, response);
  else answered.catch((error) => response.writeHead(500).end(String(error)));
});
// A request on an idle connection must not meet its end.
server.keepAliveTimeout = 600_000;
await addKey();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = makeProvider(issuer);
  say(issuer);
});

for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument = ''] = line.split(' ');
  if (command === 'rotate') {
    await addKey();
    // Registered clients, grants and sessions are kept outside of the provider.
    provider = makeProvider(provider.issuer);
  } else audience = argument;
  say('done');
}
server.close();
server.closeAllConnections();
