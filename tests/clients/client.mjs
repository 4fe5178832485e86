// A client of the TypeScript SDK under remote control: options as JSON in argv, then one command a line on stdin and
// one answer a line on stdout. `{"call": {name, arguments}, "reply": {action, content}}` calls a tool; what the server
// asks meanwhile is answered with the reply, and declined where there is none. It ends when stdin does.

import { createInterface } from 'node:readline';

const options = JSON.parse(process.argv[2]);
const INFO = { name: `typescript-sdk-${options.sdk}`, version: '1' };
const CAPABILITIES = options.elicitation ? { elicitation: {} } : {};

async function firstSdk() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const { SSEClientTransport } = await import('@modelcontextprotocol/sdk/client/sse.js');
  const { ElicitRequestSchema } = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client(INFO, { capabilities: CAPABILITIES });
  return {
    client,
    transports: { StdioClientTransport, StreamableHTTPClientTransport, SSEClientTransport },
    onQuestion: (handler) => client.setRequestHandler(ElicitRequestSchema, handler),
    callTool: (call, requestOptions) => client.callTool(call, undefined, requestOptions),
    protocol: () => null,
  };
}

async function secondSdk() {
  const { Client, StreamableHTTPClientTransport, SSEClientTransport } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const mode = options.era === 'legacy' ? 'legacy' : { pin: options.era };
  const client = new Client(INFO, { capabilities: CAPABILITIES, versionNegotiation: { mode } });
  return {
    client,
    transports: { StdioClientTransport, StreamableHTTPClientTransport, SSEClientTransport },
    onQuestion: (handler) => client.setRequestHandler('elicitation/create', handler),
    callTool: (call, requestOptions) => client.callTool(call, requestOptions),
    protocol: () => client.getNegotiatedProtocolVersion(),
  };
}

function transportOf(transports) {
  const { StdioClientTransport, StreamableHTTPClientTransport, SSEClientTransport } = transports;
  switch (options.transport) {
    case 'stdio':
      return new StdioClientTransport({ command: options.command[0], args: options.command.slice(1), env: options.env });
    case 'http':
      return new StreamableHTTPClientTransport(new URL(options.url));
    case 'sse':
      return new SSEClientTransport(new URL(options.url));
    default:
      throw new Error(`there is no transport ${options.transport}`);
  }
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

const sdk = await (options.sdk === 1 ? firstSdk() : secondSdk());
let reply = { action: 'decline' };
let questions = [];
let progress = [];

// Progress that comes in one chunk with the result is handled after it, and reported as an error: it did arrive.
sdk.client.onerror = (error) => {
  const [, notification] = /progress notification for an unknown token: (.*)$/s.exec(error.message) ?? [];
  if (notification === undefined) console.error(error);
  else progress.push(JSON.parse(notification).params.message);
};

if (options.elicitation) {
  sdk.onQuestion(async (request) => {
    questions.push(request.params.message);
    return reply;
  });
}

await sdk.client.connect(transportOf(sdk.transports));
// Listing first is what hosts do, and what makes this SDK hold every result to its tool's output schema.
const { tools } = await sdk.client.listTools();
say({ protocol: sdk.protocol(), tools: tools.map((tool) => tool.name) });

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  progress = [];
  questions = [];
  reply = command.reply ?? { action: 'decline' };
  try {
    const result = await sdk.callTool(command.call, { onprogress: (update) => progress.push(update.message) });
    say({ result, questions, progress });
  } catch (error) {
    say({ failure: { code: error.code ?? null, message: error.message }, questions, progress });
  }
}
await sdk.client.close();
