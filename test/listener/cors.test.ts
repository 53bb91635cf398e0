import assert from 'node:assert/strict';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { withCors } from '../../server/listener/cors.js';

async function serve(t: TestContext, origins: string | undefined): Promise<string> {
  const handler = withCors(origins, (req, res) => (res as http.ServerResponse).end(`answered ${req.method}`));
  const server = http.createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/loramux.v1.InferenceService/Predict`;
}

const preflight = (url: string, origin: string) =>
  fetch(url, {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'connect-protocol-version, content-type',
    },
  });

test('without a setting no other origin is allowed, and OPTIONS reaches the routes', async (t) => {
  const answer = await preflight(await serve(t, undefined), 'https://app.example');
  assert.equal(answer.headers.get('access-control-allow-origin'), null);
  assert.equal(await answer.text(), 'answered OPTIONS');
});

test('allowed origins may preflight, send and read what matters; others get no permission', async (t) => {
  const url = await serve(t, 'https://app.example, https://other.example');
  const allowed = await preflight(url, 'https://other.example');
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://other.example');
  assert.match(allowed.headers.get('access-control-allow-headers')!, /connect-protocol-version/);
  assert.match(allowed.headers.get('vary')!, /Origin/);
  const post = await fetch(url, { method: 'POST', headers: { origin: 'https://app.example' } });
  assert.equal(post.headers.get('access-control-allow-origin'), 'https://app.example');
  assert.match(post.headers.get('access-control-expose-headers')!, /x-loramux-adapter.*grpc-status/);
  assert.equal(await post.text(), 'answered POST');
  const refused = await preflight(url, 'https://evil.example');
  assert.equal(refused.headers.get('access-control-allow-origin'), null);
  const plain = await fetch(url, { method: 'OPTIONS' });
  assert.equal(await plain.text(), 'answered OPTIONS');
});

test('a star allows every origin', async (t) => {
  const answer = await preflight(await serve(t, '*'), 'https://any.example');
  assert.equal(answer.headers.get('access-control-allow-origin'), '*');
});
