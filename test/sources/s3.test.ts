import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import type { SourceSettings } from '../../server/sources/source-settings.js';
import { cuttingProxy } from './cutting-proxy.js';
import { hasS3Server, KEYS, startS3 } from './s3-server.js';
import { Sandbox } from './setup.js';

const skip = hasS3Server
  ? false
  : 'versitygw is not installed (go install github.com/versity/versitygw/cmd/versitygw@latest)';

describe('objects of an S3 server', { skip }, async () => {
  if (!hasS3Server) return;
  const sandbox = new Sandbox();
  const server = await startS3();
  const proxy = await cuttingProxy(server.endpoint);
  const client = new S3Client({
    endpoint: server.endpoint,
    region: 'us-east-1',
    credentials: KEYS,
    forcePathStyle: true,
  });
  after(async () => {
    client.destroy();
    await sandbox.close();
    await proxy.close();
    await server.close();
  });
  // The variables that Amazon's tools read.
  process.env.AWS_ACCESS_KEY_ID = KEYS.accessKeyId;
  process.env.AWS_SECRET_ACCESS_KEY = KEYS.secretAccessKey;
  process.env.AWS_REGION = 'us-east-1';
  process.env.AWS_EC2_METADATA_DISABLED = 'true';

  const { config } = sandbox.adapter();
  const weights = Buffer.alloc(300_000, 7);
  const put = (key: string, body: Buffer) =>
    client.send(new PutObjectCommand({ Bucket: 'loras', Key: key, Body: body }));
  await client.send(new CreateBucketCommand({ Bucket: 'loras' }));
  await put('team/fr/adapter_config.json', config);
  await put('team/fr/adapter_model.safetensors', weights);
  await put('team/fr/optimizer.pt', Buffer.alloc(10));
  await put('team/fr2/adapter_config.json', config);

  const setup = (given: Partial<SourceSettings> = {}, cacheDir = sandbox.folder()) => {
    const s3 = { endpoint: proxy.endpoint, pathStyle: true };
    const resolver = sandbox.resolver({ allow: ['s3://loras/team', 's3://none'], s3, ...given }, cacheDir);
    return (source: string, kind: 'adapter' | 'model' = 'adapter') => resolver.open({ source, kind, base: '/' });
  };
  const invalid = (message: RegExp) => (error: unknown) => {
    const { reason, message: text, stack, cause } = error as Error & { reason: string };
    assert.equal(reason, 'ADAPTER_SOURCE_INVALID', text);
    assert.match(text, message);
    assert.ok(!`${stack}${cause}${JSON.stringify(error)}`.includes(KEYS.secretAccessKey));
    return true;
  };

  it('below a prefix become an adapter, and are asked for again only by their listing', async () => {
    const cacheDir = sandbox.folder();
    const open = setup({}, cacheDir);
    const seen = await open('s3://loras/team/fr');
    assert.deepEqual(readdirSync(seen.path).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    assert.deepEqual(readFileSync(join(seen.path, 'adapter_model.safetensors')), weights);
    assert.equal(seen.label, 's3://loras/team/fr');
    assert.equal((await open('s3://loras/team/fr/')).path, seen.path);
    await put('team/fr/adapter_model.safetensors', Buffer.alloc(300_000, 8));
    const changed = await open('s3://loras/team/fr');
    assert.notEqual(changed.path, seen.path);
    assert.deepEqual(readFileSync(join(changed.path, 'adapter_model.safetensors')), Buffer.alloc(300_000, 8));
    await put('team/fr/adapter_model.safetensors', weights);
  });

  it('that break off are continued', async () => {
    proxy.cuts.push(100_000, 120_000);
    const seen = await setup()('s3://loras/team/fr');
    assert.deepEqual(readFileSync(join(seen.path, 'adapter_model.safetensors')), weights);
    assert.deepEqual(proxy.cuts, []);
  });

  it('of a model folder come with its adapters', async () => {
    for (const [path, body] of [
      ['config.json', Buffer.from('{}')],
      ['tokenizer.json', Buffer.from('{}')],
      ['model.safetensors', Buffer.alloc(1000)],
      ['training_args.bin', Buffer.alloc(1000)],
      ['adapters/fr/adapter_config.json', config],
      ['adapters/fr/adapter_model.safetensors', weights],
    ] as const) {
      await put(`team/model/${path}`, body);
    }
    const seen = await setup()('s3://loras/team/model', 'model');
    assert.deepEqual(readdirSync(seen.path).sort(), ['adapters', 'config.json', 'model.safetensors', 'tokenizer.json']);
    assert.deepEqual(readFileSync(join(seen.path, 'adapters', 'fr', 'adapter_model.safetensors')), weights);
    await put('team/gguf/x.Q8_0.gguf', Buffer.alloc(100));
    await put('team/gguf/x.Q4_0.gguf', Buffer.alloc(50));
    assert.match((await setup()('s3://loras/team/gguf/x.Q8_0.gguf', 'model')).path, /x\.Q8_0\.gguf$/);
  });

  it('that are not there, or not allowed, are told so', async () => {
    await assert.rejects(setup()('s3://loras/team/nothing'), invalid(/there is nothing/));
    await assert.rejects(setup()('s3://none/x'), invalid(/S3 answered 404 NoSuchBucket: there is no such bucket/));
    await assert.rejects(setup()('s3://loras/other'), { reason: 'ADAPTER_SOURCE_FORBIDDEN' });
    process.env.AWS_SECRET_ACCESS_KEY = `${KEYS.secretAccessKey}-wrong`;
    try {
      await assert.rejects(
        setup()('s3://loras/team/fr'),
        invalid(/S3 answered 403 SignatureDoesNotMatch: AWS_SECRET_ACCESS_KEY does not belong/),
      );
    } finally {
      process.env.AWS_SECRET_ACCESS_KEY = KEYS.secretAccessKey;
    }
  });

  it('of a server that is away are waited for, then told', async () => {
    const s3 = { endpoint: 'http://127.0.0.1:9', pathStyle: true };
    await assert.rejects(setup({ s3 })('s3://loras/team/fr'), {
      reason: 'SOURCE_UNAVAILABLE',
      message: /the request failed \(ECONNREFUSED\)/,
    });
  });
});
