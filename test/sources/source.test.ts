import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isPrivateAddress } from '../../server/sources/private-address.js';
import { describeSource, parseHubId, parseSource, redactSource } from '../../server/sources/source.js';
import { SourceRules } from '../../server/sources/source-rules.js';
import { wantedFiles } from '../../server/sources/wanted-files.js';

const DIGEST = 'ab'.repeat(32);
const parse = (text: string, sha256?: string) => parseSource(text, '/models/m', sha256);
const remote = (text: string) => {
  const source = parse(text);
  assert.ok(source.kind !== 'folder');
  return source;
};

describe('a source text', () => {
  it('names a folder, objects of S3, a repository, or an archive', () => {
    assert.deepEqual(parse('adapters/fr'), { kind: 'folder', path: '/models/m/adapters/fr' });
    assert.deepEqual(parse('file:///a%20b'), { kind: 'folder', path: '/a b' });
    assert.deepEqual(parse('s3://bucket/a/b/'), { kind: 's3', bucket: 'bucket', prefix: 'a/b' });
    assert.deepEqual(parse('S3://bucket'), { kind: 's3', bucket: 'bucket', prefix: '' });
    assert.deepEqual(parse('hf://org/name'), { kind: 'hub', repo: 'org/name', revision: 'main', path: '' });
    assert.deepEqual(parse('hf://org/name@v1/sub/x.gguf'), {
      kind: 'hub',
      repo: 'org/name',
      revision: 'v1',
      path: 'sub/x.gguf',
    });
    assert.equal(describeSource(parseHubId('org/na.me@refs%2Fpr%2F1')), 'hf://org/na.me@refs/pr/1');
    const archive = parse(`https://h.test/a.tgz?sig=1#sha256=${DIGEST.toUpperCase()}`);
    assert.deepEqual(archive, { kind: 'archive', url: new URL('https://h.test/a.tgz?sig=1'), sha256: DIGEST });
    assert.deepEqual(parse('https://h.test/a.zip', DIGEST), {
      kind: 'archive',
      url: new URL('https://h.test/a.zip'),
      sha256: DIGEST,
    });
  });

  it('is refused with what would be right', () => {
    for (const [text, what] of [
      ['ftp://x/y', /ftp: is not served/],
      ['s3://B/x', /bucket must be/],
      ['s3://a..b/x', /bucket must be/],
      ['s3://bucket/a/../b', /part "\.\."/],
      ['s3://bucket/a//b', /part ""/],
      ['s3://bucket/a?versionId=1', /neither/],
      ['hf://org', /org\/name would be right/],
      ['hf://org/a..b', /cannot be part/],
      ['hf://org/name@a..b', /cannot be a revision/],
      ['hf://org/name@%zz', /cannot be a revision/],
      ['hf://org/name/../x', /part "\.\."/],
      ['https://h.test/a.tgz', /needs its digest/],
      ['https://h.test/a.tgz#sha256=12', /64 hexadecimal/],
      [`https://h.test/a#sha256=${DIGEST}`, /must end in/],
      [`https://h.test/x%2fa.tgz#sha256=${DIGEST}`, /escaped slash/],
    ] as const) {
      assert.throws(() => parse(text), { reason: 'ADAPTER_SOURCE_INVALID', message: what }, text);
    }
    assert.throws(() => parse(`https://h.test/a.tgz#sha256=${DIGEST}`, '00'.repeat(32)), /different digests/);
  });

  it('is never shown with what may be secret in it', () => {
    for (const text of [
      's3://KEY:SECRET@bucket/x',
      'https://u:SECRET@h.test/a.tgz',
      'https://h.test/a.bin?X-Amz-Signature=SECRET',
      'ftp://SECRET@h/x?SECRET#SECRET',
    ]) {
      assert.throws(
        () => parse(text),
        (error: Error) => !JSON.stringify([error.message, error.cause, error.stack]).includes('SECRET'),
        text,
      );
      assert.ok(!redactSource(text).includes('SECRET'), text);
    }
    assert.equal(redactSource('hf://org/name@v1'), 'hf://org/name@v1');
    assert.equal(redactSource('/a/b?c#d'), '/a/b?c#d');
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (secret) => {
        const text = `https://h.test/a.tgz?token=S3CR3T${encodeURIComponent(secret)}#sha256=${DIGEST}`;
        assert.ok(!describeSource(parse(text)).includes('S3CR3T'));
      }),
    );
  });
});

describe('the rules of sources', () => {
  const rules = new SourceRules(['s3://bucket/team/*/out', 'hf://org/*', 'hf://other/one@v1', 'https://h.test/loras']);

  it('allow what a pattern names and all below it, nothing else', () => {
    for (const [text, allowed] of [
      ['s3://bucket/team/a/out', true],
      ['s3://bucket/team/a/out/x/y', true],
      ['s3://bucket/team/a/outer', false],
      ['s3://bucket/team/a/b/out', false],
      ['s3://bucket/team', false],
      ['s3://bucket2/team/a/out', false],
      ['hf://org/name@any/sub', true],
      ['hf://orgs/name', false],
      ['hf://other/one@v1', true],
      ['hf://other/one', false],
      [`https://h.test/loras/a.tgz#sha256=${DIGEST}`, true],
      [`https://H.TEST/loras/a.tgz#sha256=${DIGEST}`, true],
      [`https://h.test/loras/../a.tgz#sha256=${DIGEST}`, false],
      [`https://h.test/loras/%2e%2e/a.tgz#sha256=${DIGEST}`, false],
      [`https://h.test:444/loras/a.tgz#sha256=${DIGEST}`, false],
      [`https://h.test.evil/loras/a.tgz#sha256=${DIGEST}`, false],
      [`http://h.test/loras/a.tgz#sha256=${DIGEST}`, false],
    ] as const) {
      assert.equal(rules.allows(remote(text)), allowed, text);
    }
    assert.throws(() => new SourceRules([]).check(remote('s3://bucket/x')), {
      reason: 'ADAPTER_SOURCE_FORBIDDEN',
      message: /no remote source is allowed/,
    });
  });

  it('are refused when they make no sense', () => {
    for (const [pattern, what] of [
      ['*', /must begin with/],
      ['https://', /must begin with/],
      ['http://example.test/x', /127\.0\.0\.1/],
      ['https://u:p@h.test/x', /user information/],
      ['s3://b//x', /part ""/],
      ['https://h.test/../x', /part "\.\."/],
    ] as const) {
      assert.throws(() => new SourceRules([pattern]), { message: what }, pattern);
    }
  });
});

it('addresses of this machine and of private networks are told from public ones', () => {
  for (const address of [
    ...['127.0.0.1', '10.1.2.3', '192.168.0.1', '172.31.9.9', '169.254.169.254', '100.64.0.1', '0.0.0.0', '224.0.0.1'],
    ...['::1', '::', 'fe80::1', 'fd00::1', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '64:ff9b::7f00:1', 'x', '2002::1'],
  ]) {
    assert.equal(isPrivateAddress(address), true, address);
  }
  for (const address of ['1.1.1.1', '172.32.0.1', '2606:4700::1', '::ffff:1.1.1.1']) {
    assert.equal(isPrivateAddress(address), false, address);
  }
});

describe('of a source', () => {
  const wanted = (kind: 'adapter' | 'model', ...paths: string[]) =>
    wantedFiles(
      paths.map((path) => ({ path, size: 1 })),
      kind,
      'it',
    ).map(({ path }) => path);
  const invalid = (message: RegExp) => ({ reason: 'ADAPTER_SOURCE_INVALID', message });

  it('only what an adapter is read from is fetched', () => {
    const config = 'adapter_config.json';
    const weights = 'adapter_model.safetensors';
    assert.deepEqual(wanted('adapter', config, weights, 'adapter_model.bin', 'README.md', 'optimizer.pt', 'x/y'), [
      config,
      weights,
    ]);
    assert.deepEqual(wanted('adapter', `en/${config}`, `en/${weights}`, 'README.md'), [
      `en/${config}`,
      `en/${weights}`,
    ]);
    assert.deepEqual(wanted('adapter', 'x.gguf', 'README.md'), ['x.gguf']);
    assert.throws(() => wanted('adapter', `a/${config}`, `b/${config}`), invalid(/several adapters \(a, b\)/));
    assert.throws(() => wanted('adapter', 'README.md'), invalid(/no adapter_config\.json among its 1 files/));
    const deep =
      /all\/a\/adapter_config\.json, all\/b\/adapter_config\.json: too deep; it must be at the top, or in a folder/;
    assert.throws(() => wanted('adapter', 'all/a/adapter_config.json', 'all/b/adapter_config.json'), invalid(deep));
    assert.throws(() => wanted('adapter'), invalid(/there is nothing/));
    assert.throws(() => wanted('adapter', `../${config}`, `a\\b/${config}`), invalid(/no adapter_config/));
  });

  it('only what a model is read from is fetched, with its adapters', () => {
    const model = ['config.json', 'tokenizer.json', 'model.safetensors'];
    assert.deepEqual(
      wanted('model', ...model, 'pytorch_model.bin', 'modeling_x.py', 'adapters/../x', 'README.md'),
      model,
    );
    const adapter = ['adapters/fr/adapter_config.json', 'adapters/fr/adapter_model.safetensors'];
    assert.deepEqual(wanted('model', ...model, ...adapter, 'adapters/fr/x.py'), [...model, ...adapter]);
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    assert.deepEqual(
      wanted('model', 'config.json', 'model.safetensors.index.json', ...shards, 'consolidated.safetensors'),
      ['config.json', 'model.safetensors.index.json', ...shards],
    );
    assert.deepEqual(wanted('model', 'm/config.json', 'm/model.safetensors'), ['m/config.json', 'm/model.safetensors']);
    assert.deepEqual(wanted('model', 'q8.gguf'), ['q8.gguf']);
    assert.throws(() => wanted('model', 'q4.gguf', 'q8.gguf'), invalid(/several \.gguf files \(q4\.gguf, q8\.gguf\)/));
    assert.throws(() => wanted('model', 'config.json', 'pytorch_model.bin'), invalid(/a pickle/));
  });
});
